"""What XREADGROUP answers, read from a connection's file: pixels go straight into the caller's rows. Knows no command.

The reply for one stream in RESP2; each element is a line with its length, then its bytes:

    *1                            streams; *-1 where none had an entry in time
      *2  $name                   this one's name
        *n                        its entries
          *2  $id                 one entry
            *2m  $name $value     its fields
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader

from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

_PIXELS = b"px"


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as it came. `pixels` is the row that the field `px` was read into, or None: then it is in `fields`."""

    entry_id: bytes
    fields: dict[bytes, bytes]
    pixels: memoryview | None


def entries(file: BufferedReader, rows: Sequence[memoryview]) -> list[RawEntry]:
    """The entries of a reply. The pixels of the i-th are read into row i where they have its size.

    Raises what the server answered instead, or ConnectionError where the reply ends early.
    """
    if _length(file, b"*") < 0:
        return []
    _length(file, b"*")
    _bulk(file)
    return [_entry(file, rows[number : number + 1]) for number in range(_length(file, b"*"))]


def _entry(file: BufferedReader, row: Sequence[memoryview]) -> RawEntry:
    _length(file, b"*")
    entry_id = _bulk(file)
    fields = {}
    pixels = None
    for _ in range(_length(file, b"*") // 2):
        name = _bulk(file)
        size = _length(file, b"$")
        if name == _PIXELS and row and size == len(row[0]):
            pixels = row[0]
            _fill(file, pixels)
        else:
            fields[name] = _bytes(file, size)
    return RawEntry(entry_id, fields, pixels)


def _length(file: BufferedReader, kind: bytes) -> int:
    line = file.readline()
    if not line.endswith(b"\r\n"):
        raise _ended()
    if line[:1] != kind:
        raise _refusal(line)
    return int(line[1:])


def _refusal(line: bytes) -> RedisError:
    if line[:1] != b"-":
        return InvalidResponse(f"not the reply of a group read: {line[:80]!r}")
    error: RedisError = DefaultParser.parse_error(line[1:-2].decode(errors="replace"))  # type: ignore[no-untyped-call]
    return error


def _bulk(file: BufferedReader) -> bytes:
    return _bytes(file, _length(file, b"$"))


def _bytes(file: BufferedReader, size: int) -> bytes:
    found = file.read(size + 2)
    if len(found) < size + 2:
        raise _ended()
    return found[:-2]


def _fill(file: BufferedReader, row: memoryview) -> None:
    if file.readinto(row) < len(row) or len(file.read(2)) < 2:
        raise _ended()


def _ended() -> RedisConnectionError:
    return RedisConnectionError("Redis closed the connection")
