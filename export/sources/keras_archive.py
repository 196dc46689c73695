"""Reads the configuration in a Keras file before Keras sees the file, and refuses what could run code or read other files.

A Keras model file is HDF5 (.h5, .hdf5, and .keras of TensorFlow 2.12) or a zip (.keras since 2.13). Both hold the
configuration as JSON. Loading it can import modules and call functions that the configuration names, unmarshal bytecode
(Lambda) and open other files (vocabularies, external links of HDF5). So the configuration is checked first, by lists of
what is allowed, and the loader of the framework gets to see only what passes.
"""

import io
import json
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import h5py

from export.convert.output_kind import Loss
from export.errors import UnreadableFile, UnsafeFile
from export.sources import operations

Config = dict[str, Any]

#: Layers that run Python code from the file, or load other files.
_CODE = frozenset(("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "ClassMethod", "InstanceMethod"))
_FILES = frozenset(("TFSMLayer", "StringLookup", "IntegerLookup", "TextVectorization"))

#: Modules whose classes a configuration may name. Everything else is somebody's own code.
_MODULES = (
    "keras", "keras.layers", "keras.models", "keras.activations", "keras.initializers", "keras.regularizers",
    "keras.constraints", "keras.dtype_policies", "keras.mixed_precision", "keras.src.", "tf_keras.src.", "builtins",
)  # fmt: skip

#: Of a zip that is larger unpacked than this, the reader is not a model's owner.
MAX_UNPACKED_BYTES = 16 * 2**30

_LOW_PRECISION = frozenset(("mixed_float16", "mixed_bfloat16", "float16", "bfloat16"))


@dataclass(frozen=True, slots=True)
class KerasArchive:
    """A checked file. `major`: of the Keras that wrote it; `loss`: what it was trained with, if it says so."""

    path: Path
    zipped: bool
    major: int
    config: Config
    loss: Loss | None
    low_precision: str | None

    @contextmanager
    def loadable(self) -> Iterator[Path]:
        """The file under a suffix that Keras accepts; a copy that computes in float32 if the file says float16."""
        suffix = ".keras" if self.zipped else ".h5"
        if self.low_precision is None and self.path.suffix == suffix:
            yield self.path
            return
        with TemporaryDirectory(prefix="sluice-keras-") as folder:
            copy = Path(folder) / f"model{suffix}"
            if self.low_precision is None:
                copy.symlink_to(self.path.absolute())
            elif self.zipped:
                _copy_zip(self.path, copy, json.dumps(self.config))
            else:
                shutil.copyfile(self.path, copy)
                with h5py.File(copy, "r+") as file:
                    file.attrs["model_config"] = json.dumps(self.config)
            yield copy


def read(path: Path) -> KerasArchive:
    """Raises UnreadableFile, UnsafeFile."""
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_hdf5(path)
    except (UnreadableFile, UnsafeFile):
        raise
    # What a damaged file raises is up to zipfile, h5py and json.
    except Exception as error:
        raise UnreadableFile(f"{path} can't be read as a Keras model: {' '.join(str(error).split())}") from error


def _read_zip(path: Path) -> KerasArchive:
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)
        names = set(archive.namelist())
        if "config.json" not in names:
            raise UnreadableFile(f"{path} is a zip, but not a Keras model: there is no config.json in it")
        if "model.weights.h5" in names:
            with archive.open("model.weights.h5") as weights, h5py.File(io.BytesIO(weights.read()), "r") as file:
                _check_links(file, path)
        config = json.loads(archive.read("config.json"))
        version = json.loads(archive.read("metadata.json")).get("keras_version", "3") if "metadata.json" in names else "3"
    return _checked(path, config, str(version), config.get("compile_config"), zipped=True)


def _read_hdf5(path: Path) -> KerasArchive:
    with h5py.File(path, "r") as file:
        _check_links(file, path)
        config, training = (_text(file.attrs.get(key)) for key in ("model_config", "training_config"))
        version = _text(file.attrs.get("keras_version")) or "1"
    if config is None:
        raise UnreadableFile(
            f"{path} holds weights and no model: save the whole model with model.save(), or, for a network of"
            " keras.applications, name it and pass the file as --weights FILE"
        )
    return _checked(path, json.loads(config), version, json.loads(training) if training else None, zipped=False)


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _checked(path: Path, config: Config, version: str, training: Config | None, *, zipped: bool) -> KerasArchive:
    model_config = {key: value for key, value in config.items() if key not in ("compile_config", "build_config")}
    check(model_config, path)
    found: set[str] = set()
    in_float32 = _in_float32(model_config, found)
    assert isinstance(in_float32, dict)
    major = int(version.partition(".")[0])
    return KerasArchive(path, zipped, major, in_float32, _loss(training), min(found, default=None))


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises UnsafeFile if unpacking could write outside of a folder or fill the disk."""
    members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or link:
            raise UnsafeFile(f"{path} is refused: its member {member.filename!r} would be written outside of its folder")
    if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise UnsafeFile(f"{path} is refused: unpacked it would take more than {MAX_UNPACKED_BYTES >> 30} GiB")


def _check_links(file: h5py.File, path: Path) -> None:
    """Raises UnsafeFile for data that HDF5 would read from another file."""
    groups = [file]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeFile(f"{path} is refused: {group.name}/{name} is a link that may lead into another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif member.external or member.is_virtual:
                raise UnsafeFile(f"{path} is refused: {group.name}/{name} has its data in another file")


def check(config: object, path: Path) -> None:
    """Raises UnsafeFile if the configuration names code of the file's own, another file, or an unknown function."""
    if isinstance(config, list):
        for value in config:
            check(value, path)
    if not isinstance(config, dict):
        return
    name = config.get("class_name")
    if isinstance(name, str):
        _check_class(config, name.rpartition(">")[2], path)
    for key, value in config.items():
        if key in ("vocabulary", "vocabulary_file", "idf_weights") and isinstance(value, str):
            raise UnsafeFile(f"{path} is refused: it would read another file, {value}")
        check(value, path)


def _check_class(config: Config, name: str, path: Path) -> None:
    inner = config.get("config")
    if name in _CODE:
        raise UnsafeFile(f"{path} holds Python code (a {name} layer), which is never run. {own_code_advice(path)}")
    if name in _FILES:
        raise UnsafeFile(f"{path} is refused: its layer {name} reads other files")
    if name == "TFOpLambda":
        function = inner.get("function") if isinstance(inner, dict) else None
        if function not in operations.KERAS_FUNCTIONS:
            raise UnsafeFile(f"{path} is refused: it calls tf.{function}, which is not plain arithmetic on images")
    if name == "TensorFlowOpLayer":
        definition = str(inner.get("node_def") if isinstance(inner, dict) else "")
        if not any(f'"{operation}"' in definition for operation in operations.ALLOWED):
            raise UnsafeFile(f"{path} is refused: it holds an operation of TensorFlow that is not plain arithmetic")
    module = config.get("module")
    if isinstance(module, str) and not _known_module(module):
        _refuse_module(config, module, path)
    if name == "function" and isinstance(module, str) and not module.startswith(("keras.activations", "builtins", "keras.src.activations")):
        raise UnsafeFile(f"{path} is refused: it names the function {inner!r} of {module}")


def _known_module(module: str) -> bool:
    return any(module == known or (known.endswith(".") and module.startswith(known)) for known in _MODULES)


def _refuse_module(config: Config, module: str, path: Path) -> None:
    what = config.get("config") if config.get("class_name") == "function" else config.get("class_name")
    raise UnsafeFile(
        f"{path} uses {what!r} of the module {module}, whose code is not in the file and is not loaded."
        f" {own_code_advice(path)}"
    )


def own_code_advice(path: Path) -> str:
    """The way out for a model with code of its owner's: a SavedModel holds the operations instead of the code."""
    folder = f"{path.stem}_savedmodel"
    return (
        "Load it where your own code is, and export it from there:\n"
        f'    model.export("{folder}")          # in Python; in Keras 2: model.save("{folder}", save_format="tf")\n'
        f"    python -m export --keras {folder}  # in a shell"
    )


def _in_float32(value: object, found: set[str]) -> object:
    """The configuration with every policy of lower precision replaced; their names are added to `found`."""
    if isinstance(value, list):
        return [_in_float32(item, found) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _in_float32(item, found) for key, item in value.items()}
    policy = changed.get("class_name") in ("Policy", "PolicyV1", "DTypePolicy", "FloatDTypePolicy")
    if policy and isinstance(inner := changed.get("config"), dict) and inner.get("name") in _LOW_PRECISION:
        found.add(str(inner["name"]))
        changed["config"] = {**inner, "name": "float32"}
    if str(changed.get("dtype")) in _LOW_PRECISION and changed.get("class_name") != "__keras_tensor__":
        found.add(str(changed["dtype"]))
        changed["dtype"] = "float32"
    return changed


def _copy_zip(source: Path, target: Path, config: str) -> None:
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w") as written:
        for member in read.infolist():
            if member.filename == "config.json":
                written.writestr("config.json", config)
                continue
            with read.open(member) as data, written.open(member.filename, "w", force_zip64=True) as copy:
                shutil.copyfileobj(data, copy)


_LOSSES: dict[str, str] = {
    "categorical_crossentropy": "classes", "sparse_categorical_crossentropy": "classes",
    "categoricalcrossentropy": "classes", "sparsecategoricalcrossentropy": "classes",
    "categoricalfocalcrossentropy": "classes",
    "binary_crossentropy": "binary", "binarycrossentropy": "binary", "binaryfocalcrossentropy": "binary",
    "mse": "values", "mean_squared_error": "values", "meansquarederror": "values",
    "mae": "values", "mean_absolute_error": "values", "meanabsoluteerror": "values",
    "huber": "values", "huber_loss": "values", "logcosh": "values", "log_cosh": "values",
}  # fmt: skip


def _loss(training: Config | None) -> Loss | None:
    """The kind that the loss of the training is for, and whether it took logits."""
    loss = training.get("loss") if isinstance(training, dict) else None
    while isinstance(loss, list) and len(loss) == 1:
        loss = loss[0]
    from_logits = False
    if isinstance(loss, dict):
        inner = loss.get("config")
        from_logits = isinstance(inner, dict) and bool(inner.get("from_logits"))
        loss = loss.get("class_name") if loss.get("class_name") != "function" else inner
    kind = _LOSSES.get(loss.lower()) if isinstance(loss, str) else None
    return None if kind is None else (kind, from_logits)  # type: ignore[return-value]  # the table's values are kinds
