"""Reads the metadata inside a model's file: its description and its golden pair."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.onnx.model_file import digest
from consumers.onnx.session import Session
from stream.model import ModelDescription, Resize

FORMAT = "1"

#: The types of an input, and whether its pixels have fractions.
_PIXEL_TYPES = {"tensor(uint8)": False, "tensor(float)": True}

#: Greyscale, RGB and RGBA.
_CHANNELS = {1, 3, 4}


class ArtefactError(Exception):
    """There is no such model, or `python -m export` did not write its file; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden pair: an input, and the output that the framework gave for it when the model was exported.

    `image` is uint8 [height, width, channels], `output` float32 [outputs].
    """

    image: NDArray[np.uint8]
    output: NDArray[np.float32]


def describe(path: Path, session: Session) -> ModelDescription:
    """The description that consumers publish; raises ArtefactError.

    A file that `python -m export` did not write is served as well if its input and output are those of an artefact. Its
    folders give its name and version, its labels are the class indices, and images are resized by "squash".
    """
    shape, outputs = _shapes(path, session)
    takes_fractions = _PIXEL_TYPES[session.inputs[0][1]]
    if "sluice.format" not in session.metadata:
        if takes_fractions:
            raise ArtefactError(
                f"{path}: it takes float32, and has no metadata that say how pixels become that. Wrap it with: "
                "python -m export --onnx FILE"
            )
        return _bare(path, shape, outputs)
    try:
        about = _described(path, session.metadata)
    except KeyError as error:
        raise ArtefactError(f"{path}: metadata {error} is missing; export it again") from error
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: its metadata cannot be read ({error}); export it again") from error
    if about.resize.rounded is takes_fractions:
        taken = "float32" if takes_fractions else "uint8"
        raise ArtefactError(
            f"{path}: the network takes {taken}, and its metadata say rounded: {about.resize.rounded}; export it again"
        )
    if (about.height, about.width, about.channels) != shape or len(about.labels) != outputs:
        raise ArtefactError(
            f"{path}: the network takes {list(shape)} and gives {outputs} outputs, but its metadata say "
            f"{[about.height, about.width, about.channels]} and {len(about.labels)} labels; export it again"
        )
    return about


def _shapes(path: Path, session: Session) -> tuple[tuple[int, ...], int]:
    """Height, width and channels of the input, and the number of outputs.

    The network must take one uint8 or float32 [N, H, W, 1, 3 or 4] and give [N, outputs].
    """
    (_, kind, shape), (_, _, output) = session.inputs[0], session.outputs[0]
    if (
        len(session.inputs) != 1
        or kind not in _PIXEL_TYPES
        or len(shape) != 4
        or shape[3] not in _CHANNELS
        or not all(isinstance(size, int) for size in shape[1:])
        or isinstance(shape[0], int)
        or len(output) != 2
        or not isinstance(output[1], int)
    ):
        raise ArtefactError(
            f"{path}: it takes {kind} {list(shape)} and gives {list(output)}; a model must take uint8 "
            "[N, H, W, channels] and give [N, outputs]. Wrap it with: python -m export --onnx FILE"
        )
    return tuple(shape[1:]), int(output[1])


def _described(path: Path, metadata: Mapping[str, str]) -> ModelDescription:
    if metadata["sluice.format"] != FORMAT:
        raise ArtefactError(f"{path}: format {metadata['sluice.format']}, this version reads {FORMAT}; export it again")
    size = json.loads(metadata["sluice.input"])
    kind: Any = metadata.get("sluice.output_kind", "classes")
    return ModelDescription(
        name=metadata["sluice.name"],
        version=metadata["sluice.version"],
        digest=digest(path),
        height=size["height"],
        width=size["width"],
        channels=size.get("channels", 3),
        resize=Resize(**json.loads(metadata["sluice.resize"])),
        labels=tuple(json.loads(metadata["sluice.labels"])),
        precision=metadata["sluice.precision"],
        output_kind=kind,
    )


def _bare(path: Path, shape: tuple[int, ...], outputs: int) -> ModelDescription:
    height, width, channels = shape
    return ModelDescription(
        name=path.parent.parent.name,
        version=path.parent.name,
        digest=digest(path),
        height=height,
        width=width,
        channels=channels,
        resize=Resize(),
        labels=tuple(str(index) for index in range(outputs)),
    )


def golden(metadata: Mapping[str, str], model: ModelDescription) -> Golden | None:
    """The golden pair stored in the file; None if there is none."""
    if "sluice.golden.input" not in metadata:
        return None
    pixels = zlib.decompress(base64.b64decode(metadata["sluice.golden.input"]))
    return Golden(
        image=np.frombuffer(pixels, np.uint8).reshape(model.height, model.width, model.channels),
        output=np.frombuffer(base64.b64decode(metadata["sluice.golden.output"]), "<f4"),
    )
