"""All that travels with a graph, and its form as metadata of the ONNX file.

Knows the format (docs/artefact.md).  Knows nothing of where the figures came from or where they go.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FORMAT = "1"

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class Resize:
    """How a picture becomes height x width.

    squash: both sides at once; crop: the shorter side to `shorter_side` pixels, then the centre.
    """

    mode: Literal["squash", "crop"]
    shorter_side: int | None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Description:
    """All that travels with the graph.

    golden_input: uint8 [height,width,3]; golden_output: float32 [classes], the framework's answer.
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


def metadata(description: Description) -> dict[str, str]:
    """The description as the text entries of the ONNX file."""
    pixels = np.ascontiguousarray(description.golden_input, np.uint8)
    probabilities = np.ascontiguousarray(description.golden_output, "<f4")
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
    }
