"""Finds a model's file in the repository and reads the metadata inside it.

The repository has Triton's layout: `<models_dir>/<name>/<version>/model.onnx`, with positive integers as versions.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers.onnx.session import Session
from stream.model import ModelDescription, Resize

FORMAT = "1"


class ArtefactError(Exception):
    """There is no such model, or `python -m export` did not write its file; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden pair: an input, and the output that the framework gave for it when the model was exported.

    `image` is uint8 [H, W, 3], `probabilities` float32 [classes].
    """

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


def locate(models_dir: Path, model: str, version: str) -> Path:
    """The file of a model; an empty name selects the only model, an empty version the highest.

    Raises ArtefactError.
    """
    name = model or _only_model(models_dir)
    versions = sorted(
        (path.parent for path in (models_dir / name).glob("*/model.onnx") if path.parent.name.isdecimal()),
        key=lambda folder: int(folder.name),
    )
    chosen = [folder for folder in versions if folder.name == version] if version else versions[-1:]
    if not chosen:
        have = ", ".join(folder.name for folder in versions) or "none"
        raise ArtefactError(
            f"{models_dir / name / (version or '<version>')}/model.onnx does not exist (versions: {have}); "
            f"make it with: python -m export {name}"
        )
    return chosen[0] / "model.onnx"


def _only_model(models_dir: Path) -> str:
    names = sorted({path.parent.parent.name for path in models_dir.glob("*/*/model.onnx")})
    if not names:
        raise ArtefactError(f"no model in {models_dir}/; make one with: python -m export")
    if len(names) > 1:
        raise ArtefactError(f"{models_dir}/ holds several models ({', '.join(names)}); choose one with --model")
    return names[0]


def describe(path: Path, session: Session) -> ModelDescription:
    """The description that consumers publish; raises ArtefactError.

    A file that `python -m export` did not write is served as well if its input and output are those of an artefact. Its
    folders give its name and version, its labels are the class indices, and images are resized by "squash".
    """
    classes = _classes(path, session)
    try:
        return (
            _described(path, session.metadata) if "sluice.format" in session.metadata else _bare(path, session, classes)
        )
    except KeyError as error:
        raise ArtefactError(f"{path}: metadata {error} is missing; export it again") from error


def _classes(path: Path, session: Session) -> int:
    """The number of classes; the network must take one uint8 [N, H, W, 3] and give probabilities [N, classes]."""
    (_, kind, shape), (_, _, output) = session.inputs[0], session.outputs[0]
    sizes = shape[1:3]
    if (
        len(session.inputs) != 1
        or kind != "tensor(uint8)"
        or len(shape) != 4
        or shape[3] != 3
        or not all(isinstance(size, int) for size in sizes)
        or isinstance(shape[0], int)
        or len(output) != 2
        or not isinstance(output[1], int)
    ):
        raise ArtefactError(
            f"{path}: it takes {kind} {list(shape)} and gives {list(output)}; a model must take uint8 "
            "[N, H, W, 3] and give [N, classes]. Wrap it with: python -m export --onnx FILE"
        )
    return int(output[1])


def _described(path: Path, metadata: Mapping[str, str]) -> ModelDescription:
    if metadata["sluice.format"] != FORMAT:
        raise ArtefactError(f"{path}: format {metadata['sluice.format']}, this version reads {FORMAT}; export it again")
    size = json.loads(metadata["sluice.input"])
    return ModelDescription(
        name=metadata["sluice.name"],
        version=metadata["sluice.version"],
        digest=_digest(path),
        height=size["height"],
        width=size["width"],
        resize=Resize(**json.loads(metadata["sluice.resize"])),
        labels=tuple(json.loads(metadata["sluice.labels"])),
        precision=metadata["sluice.precision"],
    )


def _bare(path: Path, session: Session, classes: int) -> ModelDescription:
    _, height, width, _ = session.inputs[0][2]
    return ModelDescription(
        name=path.parent.parent.name,
        version=path.parent.name,
        digest=_digest(path),
        height=height,
        width=width,
        resize=Resize(),
        labels=tuple(str(index) for index in range(classes)),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def golden(metadata: Mapping[str, str], model: ModelDescription) -> Golden | None:
    """The golden pair stored in the file; None if there is none."""
    if "sluice.golden.input" not in metadata:
        return None
    pixels = zlib.decompress(base64.b64decode(metadata["sluice.golden.input"]))
    return Golden(
        image=np.frombuffer(pixels, np.uint8).reshape(model.height, model.width, 3),
        probabilities=np.frombuffer(base64.b64decode(metadata["sluice.golden.output"]), "<f4"),
    )
