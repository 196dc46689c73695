"""Tells by its content what kind of model a file or folder holds, without TensorFlow."""

import difflib
import hashlib
import re
import zipfile
from pathlib import Path
from typing import Literal

from export.errors import UnreadableFile

Kind = Literal["keras", "saved_model", "teachable_machine", "onnx"]

#: How the files and folders of models end.
SUFFIXES = (".keras", ".h5", ".hdf5", ".zip", ".onnx", ".pb")

_SAVED_MODEL = "saved_model.pb"
_HDF5 = b"\x89HDF\r\n\x1a\n"

#: What other files are, by their ending or their first bytes, and what to do instead.
_OTHERS = {
    ".tflite": "a TensorFlow Lite model, which can't be converted back: export the Keras model that it was made from",
    ".pt": "a PyTorch checkpoint: export it from PyTorch with torch.onnx.export, and pass the .onnx file",
    ".pth": "a PyTorch checkpoint: export it from PyTorch with torch.onnx.export, and pass the .onnx file",
    ".pkl": "a pickle, which is never read because it can run code: save the model with model.save()",
    ".json": "a configuration without weights: save the whole model with model.save()",
    ".pb": "one file of a SavedModel: pass the folder that it is in",
    ".index": "a checkpoint, which has weights and no model: save the whole model with model.save()",
    ".ckpt": "a checkpoint, which has weights and no model: save the whole model with model.save()",
    ".weights": "a file of weights without a model: save the whole model with model.save()",
}


def name_of(path: Path) -> str:
    """The model's name after its file or folder, in a form that fits a repository.

    flowers/1 and flowers/1/model.onnx are a version of flowers, as TensorFlow Serving and Triton lay it out.
    """
    whole = path.absolute()
    version = whole.parent if whole.stem == "model" else whole
    named = version.parent if version.name.isdecimal() else whole
    name = whole.stem if named is whole and not whole.is_dir() else named.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"


def kind_of(path: Path) -> Kind:
    """Raises UnreadableFile with a way out for anything that is no model."""
    check_readable(path)
    if path.is_dir():
        if (path / _SAVED_MODEL).is_file():
            return "saved_model"
        if _is_teachable_machine(path):
            return "teachable_machine"
        raise UnreadableFile(f"{path} is a folder, but not a SavedModel: {_what_folder(path)}")
    if path.name == _SAVED_MODEL:
        raise UnreadableFile(f"{path} is {_OTHERS['.pb']}, {path.parent}")
    if zipfile.is_zipfile(path):
        return _kind_of_zip(path)
    with path.open("rb") as file:
        first = file.read(8)
    if first == _HDF5:
        return "keras"
    if path.suffix.lower() == ".onnx":
        return "onnx"
    raise UnreadableFile(f"{path} is {_what_else(path, first)}")


def _is_teachable_machine(folder: Path) -> bool:
    """Whether a download from there was unpacked into the folder."""
    models = (folder / "keras_model.h5", folder / "model.savedmodel" / _SAVED_MODEL)
    return (folder / "labels.txt").is_file() and any(model.is_file() for model in models)


def _kind_of_zip(path: Path) -> Kind:
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "config.json" in names:
        return "keras"
    if names & {_SAVED_MODEL, "keras_model.h5"}:
        return "teachable_machine"
    if "model.json" in names or any(name.endswith(".tflite") for name in names):
        raise UnreadableFile(
            f"{path} is a model for TensorFlow.js or TensorFlow Lite: in Teachable Machine, export again and choose"
            " Tensorflow, Keras"
        )
    raise UnreadableFile(f"{path} is a zip without a model in it: there is neither a config.json nor a {_SAVED_MODEL}")


def _what_folder(path: Path) -> str:
    within = [str(found.parent) for found in sorted(path.glob(f"*/{_SAVED_MODEL}"))]
    if within:
        return f"there is no {_SAVED_MODEL} in it; pass {within[0]}"
    if (path / "config.json").is_file():
        return f"Keras saved it with zipped=False. Zip it, and pass the zip: cd {path} && zip -r ../{path.name}.keras ."
    if next(path.glob("*.index"), None):
        return f"it is {_OTHERS['.index']}"
    return f"there is no {_SAVED_MODEL} in it"


def _what_else(path: Path, first: bytes) -> str:
    if not first:
        return "empty"
    if first == b"version ":
        return "a pointer of Git LFS and not the model itself: run git lfs pull"
    if first.lstrip().startswith((b"<", b'{"mess')):
        return "a web page and not a model: the download did not work"
    other = _OTHERS.get(path.suffix.lower())
    return other or (
        "not a model that can be read (damaged, or of another kind): .keras, .h5 and .hdf5 files, SavedModel folders,"
        " Teachable Machine downloads and .onnx files can be"
    )


def check_readable(path: Path) -> None:
    """Raises UnreadableFile with the system's reason if a file or folder can't be read."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            with path.open("rb"):
                pass
    except OSError as error:
        raise UnreadableFile(f"can't read {path}: {error.strerror or error}{_similar(path)}") from error


def _similar(path: Path) -> str:
    """The model whose name is most like that of a path that does not exist: `; is it flowers.keras?`, or nothing."""
    if path.exists() or not path.parent.is_dir():
        return ""
    models = {there.stem: there.name for there in path.parent.iterdir() if there.suffix.lower() in SUFFIXES}
    near = difflib.get_close_matches(path.stem, models, n=1)
    return f"; is it {path.parent / models[near[0]]}?" if near else ""


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = [f"{part.relative_to(path)}:{digest(part)}" for part in sorted(path.rglob("*")) if part.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
