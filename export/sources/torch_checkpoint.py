"""Reads the tensors of a PyTorch checkpoint in the legacy (not zip) format without PyTorch.

The file is five pickles and then raw memory, all little-endian:

    pickle  the magic number
    pickle  the protocol version, 1001
    pickle  a dict about the machine that wrote it
    pickle  the state dict; a tensor is a call of torch._utils._rebuild_tensor_v2 with a
            persistent id ("storage", type, key, device, elements, view) in it
    pickle  a list of the storages' keys, in the order of what follows
    then for each key: int64 number of elements, and the elements

A pickle can name any function of any module and have it called. The unpickler here knows five
names, maps each to a harmless class of its own and refuses every other.

Source of the format: torch/serialization.py, function _legacy_load.
"""

import collections
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from export.errors import UnreadableFile

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

Array = npt.NDArray[Any]


class FloatStorage:
    """Stands for torch.FloatStorage."""

    dtype = np.dtype("<f4")


class LongStorage:
    """Stands for torch.LongStorage."""

    dtype = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class _StorageReference:
    key: str
    dtype: np.dtype[Any]
    elements: int


@dataclass(frozen=True, slots=True)
class _TensorView:
    """The first four arguments of torch._utils._rebuild_tensor_v2; the others are for training."""

    storage: _StorageReference
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False
    backward_hooks: object = None

    def over(self, memory: Array) -> Array:
        """The tensor's elements as an array of its own.

        A checkpoint stores memory, not arrays: a tensor that was transposed before it was saved
        keeps its strides. They are checked, since NumPy would read past the end of the memory.
        """
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0 or last >= memory.size:
            raise ValueError("a tensor reaches outside its storage")
        view = np.lib.stride_tricks.as_strided(
            memory[self.offset :],
            self.shape,
            tuple(stride * memory.itemsize for stride in self.strides),
            writeable=False,
        )
        return np.ascontiguousarray(view).reshape(self.shape)


_KNOWN_NAMES: Mapping[tuple[str, str], type[object]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _TensorView,
    ("torch", "FloatStorage"): FloatStorage,
    ("torch", "LongStorage"): LongStorage,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> type[object]:
        try:
            return _KNOWN_NAMES[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, which no list of tensors needs"
            ) from None

    def persistent_load(self, pid: tuple[str, type[object], str, str, int, object], /) -> _StorageReference:
        kind, storage_type, key, _device, elements, _view = pid
        if kind != "storage" or not issubclass(storage_type, FloatStorage | LongStorage):
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        return _StorageReference(str(key), storage_type.dtype, int(elements))


def read(path: Path) -> dict[str, Array]:
    """All tensors of the checkpoint by name.

    Raises UnreadableFile where the file can't be opened or isn't what this module reads.
    """
    try:
        with path.open("rb") as file:
            return _tensors(file)
    except OSError as error:
        raise UnreadableFile(f"can't read {path}: {error.strerror or error}") from error
    # What a damaged pickle raises is anything that a constructor or an opcode raises.
    except Exception as error:
        raise UnreadableFile(f"{path} is not a PyTorch checkpoint that can be read: {error}") from error


def _tensors(file: BinaryIO) -> dict[str, Array]:
    magic, protocol = _unpickle(file), _unpickle(file)
    if (magic, protocol) != (MAGIC_NUMBER, PROTOCOL_VERSION):
        raise ValueError("it is not in the legacy format")
    _unpickle(file)  # about the machine; little-endian is all that PyTorch writes
    views, keys = _unpickle(file), _unpickle(file)
    if not isinstance(views, dict) or not isinstance(keys, list):
        raise TypeError("it is not a dict of tensors and a list of storages")
    if not all(isinstance(view, _TensorView) for view in views.values()):
        raise TypeError("it holds more than tensors")
    references = {view.storage.key: view.storage for view in views.values()}
    memory = {key: _storage(file, references[key]) for key in keys}
    return {name: view.over(memory[view.storage.key]) for name, view in views.items()}


def _unpickle(file: BinaryIO) -> object:
    return _RestrictedUnpickler(file).load()


def _storage(file: BinaryIO, reference: _StorageReference) -> Array:
    (elements,) = struct.unpack("<q", file.read(8))
    if elements != reference.elements:
        raise ValueError(f"storage {reference.key} has {elements} elements, not {reference.elements}")
    return np.frombuffer(file.read(elements * reference.dtype.itemsize), reference.dtype, count=elements)
