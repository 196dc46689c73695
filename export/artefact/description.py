"""All that travels with a graph, and its form as metadata of the ONNX file."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

FORMAT = "1"

#: The graph's input: uint8 [N,H,W,3], RGB.
INPUT_NAME = "images"

#: The graph's output: float32 [N,classes].
OUTPUT_NAME = "probabilities"

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class Resize:
    """How a image becomes height x width.

    squash: both sides at once; crop: the shorter side to `shorter_side` pixels, then the centre.
    """

    mode: Literal["squash", "crop"]
    shorter_side: int | None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Description:
    """All that travels with the graph.

    golden_input: uint8 [height,width,3]; golden_output: float32 [classes], the framework's answer for
    fp32 and the file's own on the CPU for fp16 and int8.  agreement: with fp32, for these two.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    height: int
    width: int
    resize: Resize
    precision: Precision
    preprocess: str
    source: Mapping[str, str]
    parity: Mapping[str, float]
    golden_input: npt.NDArray[np.uint8]
    golden_output: npt.NDArray[np.float32]
    agreement: Mapping[str, object] | None = None


def metadata(description: Description) -> dict[str, str]:
    """The description as the text entries of the ONNX file."""
    pixels = np.ascontiguousarray(description.golden_input, np.uint8)
    probabilities = np.ascontiguousarray(description.golden_output, "<f4")
    agreement = {} if description.agreement is None else {"sluice.agreement": json.dumps(dict(description.agreement))}
    return {
        "sluice.format": FORMAT,
        "sluice.name": description.name,
        "sluice.version": str(description.version),
        "sluice.labels": json.dumps(description.labels, ensure_ascii=False),
        "sluice.input": json.dumps({"height": description.height, "width": description.width}),
        "sluice.resize": json.dumps(asdict(description.resize)),
        "sluice.precision": description.precision,
        "sluice.preprocess": description.preprocess,
        "sluice.source": json.dumps(dict(description.source), ensure_ascii=False),
        "sluice.parity": json.dumps(dict(description.parity)),
        "sluice.golden.input": base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii"),
        "sluice.golden.output": base64.b64encode(probabilities.tobytes()).decode("ascii"),
        **agreement,
    }


def parse(metadata: Mapping[str, str]) -> Description:
    """The inverse of `metadata`; raises KeyError, ValueError, TypeError where it is not of this format."""
    if metadata["sluice.format"] != FORMAT:
        raise ValueError(f"it is of format {metadata['sluice.format']}, not {FORMAT}")
    size = json.loads(metadata["sluice.input"])
    pixels = zlib.decompress(base64.b64decode(metadata["sluice.golden.input"]))
    agreement = metadata.get("sluice.agreement")
    return Description(
        name=metadata["sluice.name"],
        version=int(metadata["sluice.version"]),
        labels=tuple(json.loads(metadata["sluice.labels"])),
        height=size["height"],
        width=size["width"],
        resize=Resize(**json.loads(metadata["sluice.resize"])),
        precision=_precision(metadata["sluice.precision"]),
        # For people only: a file made by hand may lack it.
        preprocess=metadata.get("sluice.preprocess", "none"),
        source=json.loads(metadata.get("sluice.source", "{}")),
        parity=json.loads(metadata.get("sluice.parity", "{}")),
        golden_input=np.frombuffer(pixels, np.uint8).reshape(size["height"], size["width"], 3),
        golden_output=np.frombuffer(base64.b64decode(metadata["sluice.golden.output"]), "<f4"),
        agreement=None if agreement is None else json.loads(agreement),
    )


def _precision(text: str) -> Precision:
    for known in get_args(Precision):
        if text == known:
            return text  # type: ignore[return-value]  # mypy doesn't see that get_args gives the literals
    raise ValueError(f"its precision is {text!r}")
