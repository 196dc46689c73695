"""Reads a model file without loading the network: its metadata and its digest.

An ONNX file is one protobuf message, `ModelProto`. Its repeated field 14 holds the metadata, each with a key (field 1)
and a value (field 2). All other fields, the network among them, are skipped without reading them. Sources: onnx.proto,
and the encoding in the documentation of Protocol Buffers.
"""

import hashlib
from io import SEEK_CUR, BufferedReader, BytesIO
from pathlib import Path

_METADATA_PROPS = 14

#: Wire types: how a field's value is stored.
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


class NotOnnx(ValueError):
    """The file is not an ONNX model."""


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a model file; raises NotOnnx."""
    found = {}
    with path.open("rb") as file:
        try:
            while (tag := _tag(file)) is not None:
                field, wire_type = tag
                if (field, wire_type) == (_METADATA_PROPS, _LENGTH_DELIMITED):
                    key, value = _pair(BytesIO(file.read(_varint(file))))
                    found[key] = value
                else:
                    _skip(file, wire_type)
        except (EOFError, UnicodeDecodeError) as error:
            raise NotOnnx(f"{path} is not an ONNX model: {error}") from error
    return found


def _pair(file: BytesIO) -> tuple[str, str]:
    values = {1: "", 2: ""}
    while (tag := _tag(file)) is not None:
        field, wire_type = tag
        if field in values and wire_type == _LENGTH_DELIMITED:
            values[field] = file.read(_varint(file)).decode()
        else:
            _skip(file, wire_type)
    return values[1], values[2]


def _tag(file: BufferedReader | BytesIO) -> tuple[int, int] | None:
    """Field number and wire type of the next field; None at the end."""
    try:
        tag = _varint(file)
    except _End:
        return None
    return tag >> 3, tag & 7


class _End(EOFError):
    """The file ended before a field began."""


def _varint(file: BufferedReader | BytesIO) -> int:
    """A number in groups of 7 bits, the lowest first; the highest bit of a byte says that another follows."""
    value = 0
    for shift in range(0, 64, 7):
        if not (byte := file.read(1)):
            raise _End if shift == 0 else EOFError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise EOFError("a number has too many digits")


def _skip(file: BufferedReader | BytesIO, wire_type: int) -> None:
    if wire_type == _VARINT:
        _varint(file)
        return
    lengths = {_FIXED64: 8, _FIXED32: 4}
    if wire_type not in {*lengths, _LENGTH_DELIMITED}:
        raise EOFError(f"wire type {wire_type} is unknown")
    file.seek(lengths[wire_type] if wire_type in lengths else _varint(file), SEEK_CUR)
