"""One image to classify: a file, a frame of a video, or standard input."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

#: The name of standard input, in the command and in the output.
STDIN = "-"

#: Larger files are not read: the default limit of the service is 20 MiB, and each thread would hold one in memory.
MAX_BYTES = 256 * 2**20

#: Identifies a row: the absolute path, and the number of the frame if it is one of a video.
Key = tuple[str, int | None]


class UnreadableError(Exception):
    """The image cannot be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """`read` returns the encoded bytes, just before they are sent; it raises UnreadableError."""

    path: str
    read: Callable[[], bytes]
    frame: int | None = None
    time_s: float | None = None

    @property
    def key(self) -> Key:
        return key(self.path, self.frame)


def key(path: str, frame: int | None = None) -> Key:
    """Compares paths as text: `photos/a.jpg`, `./photos/a.jpg` and the absolute path have the same key."""
    return shown(os.path.abspath(path)), frame  # noqa: PTH100 (Path.resolve would follow links)


def shown(path: str) -> str:
    r"""The path as text that any file can hold: a byte that is not UTF-8 becomes `\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def image(path: str) -> Item:
    """The item of one file, or of standard input."""
    return Item(path, _read_stdin if path == STDIN else lambda: _read_file(path))


def unreadable(path: str, why: str) -> Item:
    """An item that cannot be read. It still gets its row."""

    def fails() -> bytes:
        raise UnreadableError(why)

    return Item(path, fails)


def _read_stdin() -> bytes:
    return _whole(sys.stdin.buffer.read(MAX_BYTES + 1))


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (keeps names that are not UTF-8)
            return _whole(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def _whole(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise UnreadableError(f"has more than {MAX_BYTES >> 20} MiB")
    if not data:
        raise UnreadableError("is empty")
    return data
