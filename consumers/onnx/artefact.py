"""Finds a model's file in the repository and reads the metadata inside it.

The repository has Triton's layout: `<models_dir>/<name>/<version>/model.onnx`, with positive integers as versions.
"""

import base64
import json
import logging
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.onnx.model_file import NotOnnx, digest, read_metadata
from consumers.onnx.session import Session
from stream.model import ModelDescription, Resize

logger = logging.getLogger(__name__)

FORMAT = "1"

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


def locate(models_dir: Path, model: str, version: str, *, unsuited: Collection[str] = ()) -> Path:
    """The file of a model; an empty name selects the only model, an empty version the highest.

    A version whose precision is among the `unsuited` ones is only chosen if there is no other. Raises ArtefactError.
    """
    name = model or _only_model(models_dir)
    versions = sorted(
        (path.parent for path in (models_dir / name).glob("*/model.onnx") if path.parent.name.isdecimal()),
        key=lambda folder: int(folder.name),
    )
    chosen = [folder for folder in versions if folder.name == version] if version else _highest(versions, unsuited)
    if not chosen:
        have = ", ".join(folder.name for folder in versions) or "none"
        raise ArtefactError(
            f"{models_dir / name / (version or '<version>')}/model.onnx does not exist (versions: {have}); "
            f"make it with: python -m export {name}"
        )
    return chosen[0] / "model.onnx"


def _highest(versions: list[Path], unsuited: Collection[str]) -> list[Path]:
    suited = [folder for folder in versions if _precision(folder / "model.onnx") not in unsuited] if unsuited else []
    if suited and suited[-1] != versions[-1]:
        logger.info(
            "chose version %s: version %s is %s, which this provider computes slowly",
            suited[-1].name,
            versions[-1].name,
            _precision(versions[-1] / "model.onnx"),
        )
    return (suited or versions)[-1:]


def _precision(path: Path) -> str:
    """The precision in the metadata; empty if there is none, or no ONNX file, which is reported when it is loaded."""
    try:
        return read_metadata(path).get("sluice.precision", "")
    except (NotOnnx, OSError):
        return ""


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
    shape, outputs = _shapes(path, session)
    if "sluice.format" not in session.metadata:
        return _bare(path, shape, outputs)
    try:
        about = _described(path, session.metadata)
    except KeyError as error:
        raise ArtefactError(f"{path}: metadata {error} is missing; export it again") from error
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: its metadata cannot be read ({error}); export it again") from error
    if (about.height, about.width, about.channels) != shape or len(about.labels) != outputs:
        raise ArtefactError(
            f"{path}: the network takes {list(shape)} and gives {outputs} outputs, but its metadata say "
            f"{[about.height, about.width, about.channels]} and {len(about.labels)} labels; export it again"
        )
    return about


def _shapes(path: Path, session: Session) -> tuple[tuple[int, ...], int]:
    """Height, width and channels of the input, and the number of outputs.

    The network must take one uint8 [N, H, W, 1, 3 or 4] and give [N, outputs].
    """
    (_, kind, shape), (_, _, output) = session.inputs[0], session.outputs[0]
    if (
        len(session.inputs) != 1
        or kind != "tensor(uint8)"
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
