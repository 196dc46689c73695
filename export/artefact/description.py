"""The description of a model that its ONNX file carries, and its form as metadata (docs/artefact.md)."""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

FORMAT = "1"

#: A model's name becomes a folder, part of an address and part of a Redis key's hash tag.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

#: The graph's input: [N,H,W,channels] of uint8, or of float32 if pixels have fractions.
INPUT_NAME = "images"

#: The graph's output, float32 [N,outputs], for every kind but `values`.
OUTPUT_NAME = "probabilities"

#: The graph's output for the kind `values`.
VALUES_NAME = "values"

Precision = Literal["fp32", "fp16", "int8"]

#: classes: one of N, the probabilities sum to 1; binary: two classes from one number; labels: independent
#: probabilities; values: any numbers (regression, embedding).
OutputKind = Literal["classes", "binary", "labels", "values"]

ResizeMode = Literal["squash", "crop", "crop_to_aspect_ratio", "pad_to_aspect_ratio"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

#: known: the file proves it; stated: the user said it; measured: by labelled images; assumed: a default.
Basis = Literal["known", "stated", "measured", "assumed"]


@dataclass(frozen=True, slots=True)
class Resize:
    """How an image becomes height x width; export/images/resize.py has the formulas.

    squash: both sides at once. crop: the shorter side to `shorter_side` pixels, then the centre.
    crop_to_aspect_ratio, pad_to_aspect_ratio: as Keras's loaders do. Without `antialias`, bilinear is TensorFlow's.
    Unless `rounded`, pixels keep their fractions, and the graph takes float32. With `fast_dct`, JPEG is decoded as by
    TensorFlow.
    """

    mode: ResizeMode = "squash"
    shorter_side: int | None = None
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    rounded: bool = True
    fast_dct: bool = False

    def __str__(self) -> str:
        side = f" {self.shorter_side}" if self.shorter_side else ""
        sampling = self.interpolation if self.antialias else f"{self.interpolation} without antialiasing"
        return f"{self.mode}{side}, {sampling}{'' if self.rounded else ', with fractions'}"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One decision about how the model is to be used, and the reason for it."""

    value: str
    basis: Basis
    why: str

    def __str__(self) -> str:
        return f"{self.value} ({self.basis}: {self.why})"


@dataclass(frozen=True, slots=True)
class Description:
    """Everything that travels with the graph.

    golden_input: uint8 [height,width,channels]; golden_output: float32 [outputs], the original model's answer for
    fp32 and the file's own on the CPU for fp16 and int8. agreement: with fp32, for these two. assumptions: by subject
    (normalisation, output, resize, labels). accuracy: on the user's labelled images.
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
    parity: Mapping[str, float | None]
    golden_input: npt.NDArray[np.uint8]
    golden_output: npt.NDArray[np.float32]
    channels: int = 3
    output_kind: OutputKind = "classes"
    assumptions: Mapping[str, Assumption] = field(default_factory=dict)
    accuracy: Mapping[str, object] | None = None
    agreement: Mapping[str, object] | None = None

    @property
    def output_name(self) -> str:
        return VALUES_NAME if self.output_kind == "values" else OUTPUT_NAME


def metadata(description: Description) -> dict[str, str]:
    """The description as the text entries of the ONNX file."""
    pixels = np.ascontiguousarray(description.golden_input, np.uint8)
    output = np.ascontiguousarray(description.golden_output, "<f4")
    size = {"height": description.height, "width": description.width, "channels": description.channels}
    return {
        "sluice.format": FORMAT,
        "sluice.name": description.name,
        "sluice.version": str(description.version),
        "sluice.labels": json.dumps(description.labels, ensure_ascii=False),
        "sluice.input": json.dumps(size),
        "sluice.output_kind": description.output_kind,
        "sluice.resize": json.dumps(_resize(description.resize)),
        "sluice.precision": description.precision,
        "sluice.preprocess": description.preprocess,
        "sluice.source": json.dumps(dict(description.source), ensure_ascii=False),
        "sluice.parity": json.dumps(dict(description.parity)),
        "sluice.golden.input": base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii"),
        "sluice.golden.output": base64.b64encode(output.tobytes()).decode("ascii"),
        **_optional(description),
    }


def _resize(resize: Resize) -> dict[str, object]:
    """Without what is the default and unknown to consumers of earlier versions, so that they read the artefact."""
    later = {"rounded": True, "fast_dct": False}
    return {name: value for name, value in asdict(resize).items() if name not in later or later[name] is not value}


def _optional(description: Description) -> dict[str, str]:
    assumptions = {subject: asdict(assumption) for subject, assumption in description.assumptions.items()}
    found = {
        "sluice.assumptions": assumptions or None,
        "sluice.accuracy": description.accuracy,
        "sluice.agreement": description.agreement,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in found.items() if value is not None}


def parse(metadata: Mapping[str, str]) -> Description:
    """The inverse of `metadata`; raises KeyError, ValueError, TypeError if it is not of this format."""
    if metadata["sluice.format"] != FORMAT:
        raise ValueError(f"it is of format {metadata['sluice.format']}, not {FORMAT}")
    if not NAME.fullmatch(metadata["sluice.name"]):
        raise ValueError(f"{metadata['sluice.name']!r} can't be a model's name")
    size = json.loads(metadata["sluice.input"])
    channels = size.get("channels", 3)
    pixels = zlib.decompress(base64.b64decode(metadata["sluice.golden.input"]))
    return Description(
        name=metadata["sluice.name"],
        version=int(metadata["sluice.version"]),
        labels=tuple(json.loads(metadata["sluice.labels"])),
        height=size["height"],
        width=size["width"],
        channels=channels,
        output_kind=_one_of(OutputKind, metadata.get("sluice.output_kind", "classes")),
        resize=Resize(**json.loads(metadata["sluice.resize"])),
        precision=_one_of(Precision, metadata["sluice.precision"]),
        # For people only: a file made by hand may lack it.
        preprocess=metadata.get("sluice.preprocess", "none"),
        source=json.loads(metadata.get("sluice.source", "{}")),
        parity=json.loads(metadata.get("sluice.parity", "{}")),
        golden_input=np.frombuffer(pixels, np.uint8).reshape(size["height"], size["width"], channels),
        golden_output=np.frombuffer(base64.b64decode(metadata["sluice.golden.output"]), "<f4"),
        assumptions={
            subject: Assumption(**assumption)
            for subject, assumption in json.loads(metadata.get("sluice.assumptions", "{}")).items()
        },
        accuracy=json.loads(metadata.get("sluice.accuracy", "null")),
        agreement=json.loads(metadata.get("sluice.agreement", "null")),
    )


def _one_of(literal: Any, text: str) -> Any:  # noqa: ANN401  # a Literal has no type that mypy can name
    if text not in get_args(literal):
        raise ValueError(f"{text!r} is none of {', '.join(get_args(literal))}")
    return text
