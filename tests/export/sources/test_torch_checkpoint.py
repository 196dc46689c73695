"""The legacy PyTorch format, written here byte by byte, and what the reader refuses in it."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.errors import UnreadableFile
from export.sources import torch_checkpoint

NUMBERS = np.arange(12, dtype="<f4")


class Global:
    """Pickled as a name of a module that need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as a call of such a name."""

    def __init__(self, function: Global, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Storage:
    """Pickled as PyTorch's persistent id of a storage."""


def encode(value: object) -> bytes:
    """Opcodes of protocol 2; pickle itself would not write names of modules that don't exist."""
    match value:
        case Global():
            return b"c" + f"{value.module}\n{value.name}\n".encode()
        case Call():
            return encode(value.function) + encode(value.arguments) + pickle.REDUCE
        case Storage():
            identity = ("storage", Global("torch", "FloatStorage"), "7", "cpu", NUMBERS.size, None)
            return encode(identity) + pickle.BINPERSID
        case tuple():
            return pickle.MARK + b"".join(map(encode, value)) + pickle.TUPLE
        case dict():
            items = b"".join(encode(key) + encode(item) for key, item in value.items())
            return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]  # without its PROTO and STOP


def write(
    path: Path,
    state: object,
    *,
    magic: int = torch_checkpoint.MAGIC_NUMBER,
    memory: bytes | None = None,
) -> Path:
    with path.open("wb") as file:
        for part in (magic, torch_checkpoint.PROTOCOL_VERSION, {"little_endian": True}, state, ["7"]):
            file.write(pickle.PROTO + b"\x02" + encode(part) + pickle.STOP)
        file.write(struct.pack("<q", NUMBERS.size) + NUMBERS.tobytes() if memory is None else memory)
    return path


def tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    hooks = Call(Global("collections", "OrderedDict"))
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, Storage(), offset, shape, strides, False, hooks)


def test_tensors_come_back_by_name(tmp_path: Path) -> None:
    """With their offset into the storage they share."""
    state = {"all": tensor(0, (3, 4), (4, 1)), "last": tensor(11, (), ())}
    tensors = torch_checkpoint.read(write(tmp_path / "a.pth", state))
    np.testing.assert_array_equal(tensors["all"], NUMBERS.reshape(3, 4))
    assert tensors["last"].shape == ()
    assert tensors["last"] == 11


def test_strides_are_honoured(tmp_path: Path) -> None:
    """A transposed tensor is stored as the memory of the one it was made from."""
    tensors = torch_checkpoint.read(write(tmp_path / "a.pth", {"turned": tensor(0, (4, 3), (1, 4))}))
    np.testing.assert_array_equal(tensors["turned"], NUMBERS.reshape(3, 4).T)
    assert tensors["turned"].flags.c_contiguous


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3, 5), (5, 1)), (1, (3, 4), (4, 1)), (0, (2,), (12,)), (0, (2,), (-1,)), (-1, (1,), (1,))],
)
def test_a_view_outside_its_memory_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """It would read what lies beside the file in memory."""
    with pytest.raises(UnreadableFile, match="outside its storage"):
        torch_checkpoint.read(write(tmp_path / "a.pth", {"wild": tensor(offset, shape, strides)}))


@pytest.mark.parametrize("name", ["os.system", "posix.system", "builtins.eval", "torch.load", "collections.deque"])
def test_no_other_name_is_looked_up(tmp_path: Path, name: str) -> None:
    """A pickle that calls a program gets no further than its name."""
    marker = tmp_path / "marker"
    module, _, function = name.rpartition(".")
    path = write(tmp_path / "a.pth", {"x": Call(Global(module, function), f"touch {marker}")})
    with pytest.raises(UnreadableFile, match=f"it names {name}"):
        torch_checkpoint.read(path)
    assert not marker.exists()


class Trap:
    """What an attacker's object looks like: its pickle is a call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_plain_malicious_pickle_does_nothing(tmp_path: Path) -> None:
    """The same file would run its command under pickle.load."""
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    path.write_bytes(pickle.dumps(Trap(marker)))
    with pytest.raises(UnreadableFile, match="which no list of tensors needs"):
        torch_checkpoint.read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, {}, magic=1), "not in the legacy format"),
        (lambda path: write(path, ["a"]), "not a dict of tensors"),
        (lambda path: write(path, {"a": 1}), "more than tensors"),
        (lambda path: write(path, {"a": tensor(0, (1,), (1,))}, memory=struct.pack("<q", 5)), "has 5 elements"),
        (lambda path: write(path, {"a": tensor(0, (1,), (1,))}, memory=struct.pack("<q", 12)), "can be read"),
        (lambda path: path.write_bytes(b"PK\x03\x04") and path, "can be read"),
        (lambda path: path, "No such file"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """With one error for all that can be wrong in them."""
    with pytest.raises(UnreadableFile, match=message):
        torch_checkpoint.read(make(tmp_path / "a.pth"))
