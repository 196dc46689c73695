"""Parses replies to XREADGROUP, in RESP2, from a socket. Pixels are written directly into the caller's rows.

The reply for one stream. Each element is a line with its length, then its bytes:

    *1                            streams; *-1: no entry arrived in time
      *2  $name                   the name of this stream
        *n                        its entries
          *2  $id                 one entry
            *2m  $name $value     its fields
"""

import io
import socket
import ssl
import struct
from collections.abc import Sequence
from io import BufferedReader
from typing import TYPE_CHECKING, Final, NamedTuple

from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIXELS: Final = b"px"

#: Lines with short lengths. They need not be parsed digit by digit: an entry has twenty of them.
_SHORT: Final = {kind: {b"%s%d\r\n" % (kind, length): length for length in range(64)} for kind in (b"*", b"$")}
_PLAIN: Final = {length: line[:-2] for line, length in _SHORT[b"$"].items()}
_COUNTS: Final = {line[:-2]: length for line, length in _SHORT[b"*"].items()}


class RawEntry(NamedTuple):
    """An entry as received. `pixels` is the row that holds the field `px`; None: the field is in `fields`."""

    entry_id: bytes
    fields: dict[bytes, bytes]
    pixels: memoryview | None


def entries(file: BufferedReader, rows: Sequence[memoryview]) -> list[RawEntry]:
    """The entries of a reply. The pixels of entry i are read into row i if they have its size.

    Raises the server's error, or ConnectionError if the reply ends early.
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
    """The part of an entry before its pixels of this size: its id, its fields, the number of fields after the pixels.

    Returns None and reads nothing if this part is not completely in the file's buffer, or has an unusual form.
    Reading it word by word takes 3 us longer.
    """
    ahead = file.peek()
    begin, found, _ = ahead.partition(b"$%d\r\n%s\r\n$%d\r\n" % (len(_PIXELS), _PIXELS, size))
    # A pair, the length of the id, the id, the number of words; then alternating lengths and words, and an empty line.
    lines = begin.split(b"\r\n")
    if not found or len(lines) % 4 != 1 or lines[0] != b"*2":
        return None
    lengths, words = [lines[1], *lines[4:-1:2]], [lines[2], *lines[5::2]]
    if lengths != [_PLAIN.get(len(word)) for word in words] or (count := _COUNTS.get(lines[3])) is None:
        return None  # A word is long, or contains an end of line.
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


#: Bytes read from the socket at once for small values. Longer values bypass this buffer.
_BUFFER = 4096


def socket_file(connected: socket.socket) -> BufferedReader:
    """A file that reads from the socket, for `entries`. Reading raises TimeoutError after the socket's time-out.

    The kernel keeps the time-out. Python's own would double the system calls and release its lock around each.
    """
    encrypted = isinstance(connected, ssl.SSLSocket)  # One read may need several receives; ssl keeps the time.
    return io.BufferedReader(socket.SocketIO(connected, "r") if encrypted else _KernelTimedSocket(connected), _BUFFER)


class _KernelTimedSocket(io.RawIOBase):
    """A blocking socket whose time-out the kernel keeps."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        timeout_s = connected.gettimeout() or 0.0  # 0: no limit, for the kernel too
        connected.settimeout(None)
        timeval = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connected.setsockopt(socket.SOL_SOCKET, direction, timeval)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            return self._connected.recv_into(buffer)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error
