"""One thing to classify: a picture file, a frame of a video, or what comes by standard input. Knows no HTTP."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

#: The name of standard input, in the command and in the output.
STDIN = "-"

#: Longer files are not read: no service takes so much by default (20 MiB), and each job would hold one in memory.
MAX_BYTES = 256 * 2**20

#: What tells one row from all others: the absolute path, and the frame where it is one of a video.
Key = tuple[str, int | None]


class UnreadableError(Exception):
    """The picture cannot even be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """Where the picture is from, and how to get its encoded bytes, which is done as late as possible.

    `read` raises UnreadableError.
    """

    path: str
    read: Callable[[], bytes]
    frame: int | None = None
    time_s: float | None = None

    @property
    def key(self) -> Key:
        return key(self.path, self.frame)


def key(path: str, frame: int | None = None) -> Key:
    """Lexical: `photos/a.jpg`, `./photos/a.jpg` and the same with the working folder in front are one."""
    return shown(os.path.abspath(path)), frame  # noqa: PTH100 (Path.resolve would follow links)


def shown(path: str) -> str:
    r"""The path as Unicode that any file can hold: a byte that is no UTF-8 becomes `\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def picture(path: str) -> Item:
    """The item of one file, or of standard input."""
    return Item(path, _read_stdin if path == STDIN else lambda: _read_file(path))


def unreadable(path: str, why: str, *, frame: int | None = None) -> Item:
    """An item that is known to be failed_before; it still gets its row."""

    def fails() -> bytes:
        raise UnreadableError(why)

    return Item(path, fails, frame)


def _read_stdin() -> bytes:
    return _whole(sys.stdin.buffer.read(MAX_BYTES + 1))


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (names that are no UTF-8 stay as they are)
            return _whole(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def _whole(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise UnreadableError(f"has more than {MAX_BYTES >> 20} MiB")
    if not data:
        raise UnreadableError("is empty")
    return data
