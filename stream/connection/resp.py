"""What XREADGROUP answers, read from a connection's file: pixels go straight into the caller's rows. Knows no command.

The reply for one stream in RESP2; each element is a line with its length, then its bytes:

    *1                            streams; *-1 where none had an entry in time
      *2  $name                   this one's name
        *n                        its entries
          *2  $id                 one entry
            *2m  $name $value     its fields
"""

from collections.abc import Sequence
from io import BufferedReader
from typing import Final, NamedTuple

from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

_PIXELS: Final = b"px"

#: The lines of most lengths, which need not be read digit by digit: an entry has twenty of them.
_SHORT: Final = {kind: {b"%s%d\r\n" % (kind, length): length for length in range(64)} for kind in (b"*", b"$")}
_PLAIN: Final = {length: line[:-2] for line, length in _SHORT[b"$"].items()}
_COUNTS: Final = {line[:-2]: length for line, length in _SHORT[b"*"].items()}


class RawEntry(NamedTuple):
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
    pixels = None
    if row and (head := _head(file, len(row[0]))):
        entry_id, fields, left = head
        pixels = row[0]
        _fill(file, pixels)
    else:
        _length(file, b"*")
        entry_id, fields, left = _bulk(file), {}, _length(file, b"*") // 2
    for _ in range(left):
        name = _bulk(file)
        size = _length(file, b"$")
        if name == _PIXELS and row and size == len(row[0]):
            pixels = row[0]
            _fill(file, pixels)
        else:
            fields[name] = _bytes(file, size)
    return RawEntry(entry_id, fields, pixels)


def _head(file: BufferedReader, size: int) -> tuple[bytes, dict[bytes, bytes], int] | None:
    """An entry up to its pixels, which have this size: its id, its fields so far, how many fields follow.

    None, and nothing is read, where not all of it lies in the file's buffer, or it is not as plain as ingest writes it:
    to read it word by word takes 3 us longer.
    """
    ahead = file.peek()
    begin, found, _ = ahead.partition(b"$%d\r\n%s\r\n$%d\r\n" % (len(_PIXELS), _PIXELS, size))
    # A pair, the id's length, the id, how many words; then lengths and words in turns, and an empty line at the end.
    lines = begin.split(b"\r\n")
    if not found or len(lines) % 4 != 1 or lines[0] != b"*2":
        return None
    lengths, words = [lines[1], *lines[4:-1:2]], [lines[2], *lines[5::2]]
    if lengths != [_PLAIN.get(len(word)) for word in words] or (count := _COUNTS.get(lines[3])) is None:
        return None  # A word is long, or has an end of line in it.
    file.read(len(begin) + len(found))
    return words[0], dict(zip(words[1::2], words[2::2], strict=True)), count // 2 - len(words) // 2 - 1


def _length(file: BufferedReader, kind: bytes) -> int:
    line = file.readline()
    if (short := _SHORT[kind].get(line)) is not None:
        return short
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
