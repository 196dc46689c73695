"""Refuses Keras files that could run code, or read or write other files, before a framework opens them.

Loading a configuration imports the modules and calls the functions that it names, unmarshals bytecode (Lambda) and
opens further files (vocabularies, external data of HDF5). The frameworks' own safe mode leaves gaps: tf-keras runs the
Lambda of an .h5, resolves any public function of TensorFlow, and follows links of HDF5. So everything that a
configuration may name is on a list, and what is on no list is refused.
"""

import json
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from export.errors import OwnCode, UnsafeFile, command
from export.sources import operations

Config = dict[str, Any]

#: Layers that run Python code from the file, or of another framework.
_CODE = frozenset(("Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"))

#: Layers that load other files.
_FILES = frozenset(("TFSMLayer", "StringLookup", "IntegerLookup", "TextVectorization"))

#: A file that is larger unpacked than this holds no model.
MAX_UNPACKED_BYTES = 16 * 2**30

#: So much is harmless however small the file is.
HARMLESS_BYTES = 2**30

#: Unpacked size by the size of the file. Trained weights reach 1.2, and a file of zeros 1000.
MAX_COMPRESSION = 50


def check_config(config: object, path: Path) -> None:
    """Raises UnsafeFile unless everything that the configuration names is on a list."""
    if isinstance(config, list):
        for value in config:
            check_config(value, path)
    if not isinstance(config, dict):
        return
    if isinstance(name := config.get("class_name"), str):
        _check_class(config, name, path)
    for key, value in config.items():
        if key in ("vocabulary", "idf_weights", "filepath") and isinstance(value, str):
            raise UnsafeFile(f"{path} is refused: it would read another file, {value}")
        if key in ("activation", "recurrent_activation") and isinstance(value, str):
            _check_function(value, path)
        check_config(value, path)


def _check_class(config: Config, name: str, path: Path) -> None:
    inner = config.get("config")
    module = config.get("module")
    if name in _CODE:
        raise OwnCode(f"{path} holds Python code (a {name} layer), which is never run")
    if name in _FILES:
        raise UnsafeFile(f"{path} is refused: its layer {name} reads other files")
    if isinstance(module, str) and not _is_known_module(module):
        what = inner if name == "function" else name
        raise OwnCode(f"{path} uses {what!r} of the module {module}, which is not loaded")
    if name == "function":
        _check_function(inner, path)
    elif name == "TFOpLambda":
        _check_tensorflow_function(inner, path)
    elif name == "TensorFlowOpLayer":
        _check_operation(inner, path)
    elif isinstance(module, str) and module.startswith(("keras.src.ops.", "tf_keras.src.ops.")):
        if name in operations.CONTROL_FLOW:
            raise OwnCode(f"{path} is refused: its operation {name} calls a function")
    elif name.startswith("Quantized"):
        raise UnsafeFile(
            f"{path} was quantised by Keras's model.quantize(), which ONNX can't express. Export the model as it was"
            f" before, and quantise the artefact: {command()} --from ARTEFACT --precision int8 --calibrate FOLDER"
        )
    elif name not in operations.KERAS_CLASSES:
        # Only Keras 3 names the module of its own layers.
        what = "a layer of Keras that is not for images" if module == "keras.layers" else "a layer of your own"
        code = "" if module == "keras.layers" else ", whose code is not in the file"
        raise OwnCode(f"{path} has {what} ({name}){code}")


def _is_known_module(module: str) -> bool:
    return module in ("keras", "tf_keras", "builtins") or module.startswith(("keras.", "tf_keras."))


def _check_function(name: object, path: Path) -> None:
    if name not in operations.ACTIVATIONS:
        raise OwnCode(f"{path} has a function of your own ({name!r}), whose code is not in the file")


def _check_tensorflow_function(inner: object, path: Path) -> None:
    function = inner.get("function") if isinstance(inner, dict) else None
    if function not in operations.KERAS_FUNCTIONS:
        raise OwnCode(f"{path} is refused: it calls tf.{function}, and only arithmetic on images is run")


def _check_operation(inner: object, path: Path) -> None:
    """A layer of TensorFlow 2.0 to 2.3, which holds one operation as text or JSON."""
    definition = inner.get("node_def") if isinstance(inner, dict) else None
    if isinstance(definition, str):
        definition = json.loads(definition)
    operation = definition.get("op") if isinstance(definition, dict) else None
    if operation not in operations.ALLOWED:
        raise OwnCode(f"{path} is refused: it holds the operation {operation}, and only arithmetic on images is run")


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises UnsafeFile if unpacking could write outside of a folder or fill the disk."""
    members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or link:
            raise UnsafeFile(
                f"{path} is refused: its member {member.filename!r} would be written outside of its folder"
            )
    _check_unpacked(sum(member.file_size for member in members), path)


def check_contents(file: h5py.File, path: Path) -> None:
    """Raises UnsafeFile for data that HDF5 would read from another file, or that would fill the memory."""
    groups, seen, unpacked = [file], set(), 0
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UnsafeFile(f"{path} is refused: {group.name}/{name} is a link into another file")
            # What a soft link leads to has a hard link of its own, or is nothing.
            if not isinstance(link, h5py.HardLink):
                continue
            member = group[name]
            # A hard link may lead back to a group that holds it.
            if (identity := h5py.h5o.get_info(member.id).addr) in seen:
                continue
            seen.add(identity)
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif isinstance(member, h5py.Dataset):
                if member.external or member.is_virtual:
                    raise UnsafeFile(f"{path} is refused: {group.name}/{name} has its data in another file")
                unpacked += member.nbytes
    _check_unpacked(unpacked, path)


def _check_unpacked(size: int, path: Path) -> None:
    """Raises UnsafeFile for more than a model has: weights that were trained can hardly be compressed."""
    if size > min(MAX_UNPACKED_BYTES, max(HARMLESS_BYTES, MAX_COMPRESSION * path.stat().st_size)):
        raise UnsafeFile(
            f"{path} is refused: unpacked, it would take {size / 2**30:.1f} GiB, more than a model of its size"
        )
