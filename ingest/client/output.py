"""The file of rows: opened, repaired and continued, one row at a time. Knows the row_format of a row by `RowFormat` alone.

Each row goes to the operating system by itself and whole, so that SIGKILL loses no row that was written. What may be
torn all the same (a full disk, a power cut) is a last line without its end: it is cut off when the file is opened.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from ingest.client.item import Key
from ingest.client.row import Row, RowFormat

if sys.platform != "win32":
    import fcntl

#: A torn line cannot be longer than this (bytes); what is, was not written here and is not cut off.
_LONGEST_TEAR = 2**16


class OutputError(Exception):
    """The file cannot be written, or is not one of ours; the message says which and why."""


class Output:
    """Where rows go. `done` has the keys that are in it already, and whether each has an error."""

    def __init__(self, file: BinaryIO, row_format: RowFormat, done: dict[Key, bool], close: Callable[[], None]) -> None:
        self.close = close
        self._file = file
        self._form = row_format
        self.done = done

    def write(self, row: Row) -> None:
        """Raises OutputError, or BrokenPipeError where nobody reads any more."""
        try:
            _write_all(self._file, self._form.line(row))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the output cannot be written: {error.strerror}") from error


def to_stream(file: BinaryIO, row_format: RowFormat) -> Output:
    """Rows to standard output: nothing is there already."""
    _write_all(file, row_format.header)
    return Output(file, row_format, {}, file.flush)


def to_file(path: Path, row_format: RowFormat, *, retry_errors: bool) -> Output:
    """Rows to the end of a file, which is made if need be. With `retry_errors` rows with an error are dropped first."""
    with ExitStack() as opened:
        try:
            file = opened.enter_context(_locked(path))
            ours = list(_ours(file, row_format, path))
            if retry_errors and any(failed for _, failed, _ in ours):
                ours = [each for each in ours if not each[1]]
                file = opened.enter_context(_rewritten(path, row_format, [line for _, _, line in ours]))
            if file.seek(0, os.SEEK_END) == 0:
                _write_all(file, row_format.header)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error
        files = opened.pop_all()
    return Output(file, row_format, {key: failed for key, failed, _ in ours if key}, files.close)


def _locked(path: Path) -> BinaryIO:
    """The file, for this run alone: two runs at once would write rows twice."""
    file = path.open("a+b", buffering=0)
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OutputError(f"{path}: another run writes to it") from error
    return file


def _ours(file: BinaryIO, row_format: RowFormat, path: Path) -> Iterator[tuple[Key | None, bool, bytes]]:
    """Key, failed, line of each row; a torn end is cut off. Raises OutputError where the file is not of this row_format."""
    end = 0
    for number, line in enumerate(_lines(file, row_format), start=1):
        if not line.endswith(b"\n"):
            _check_tear(line, row_format, path, first=number == 1)
            file.truncate(end)
            return
        end += len(line)
        if number == 1 and row_format.header:
            if line != row_format.header:
                raise OutputError(f"{path}: has other columns than this run would write; choose another --output")
            continue
        try:
            existing = row_format.existing(line)
        except ValueError as error:
            raise OutputError(f"{path}: line {number} is not of this client's making ({error})") from error
        yield existing.key, existing.failed, line


def _check_tear(line: bytes, row_format: RowFormat, path: Path, *, first: bool) -> None:
    """Only what may have been torn here is cut off, never a line of some other file."""
    begins = row_format.header if first and row_format.header else row_format.opening
    if len(line) > _LONGEST_TEAR or line[: len(begins)] != begins[: len(line)]:
        raise OutputError(f"{path}: does not end in a row of this client's making; choose another --output")


def _lines(file: BinaryIO, row_format: RowFormat) -> Iterator[bytes]:
    """The file's lines with their ends, where a line feed within quotes ends none."""
    file.seek(0)
    parts: list[bytes] = []
    quotes = 0
    with open(os.dup(file.fileno()), "rb") as reader:  # noqa: PTH123 (buffered, on the same open file)
        for part in reader:
            parts.append(part)
            quotes += part.count(b'"') if row_format.quotes_line_feeds else 0
            if quotes % 2 == 0:
                yield b"".join(parts)
                parts, quotes = [], 0
    if parts:
        yield b"".join(parts).rstrip(b"\n")  # a quote is still open: torn, wherever its last part ends


def _rewritten(path: Path, row_format: RowFormat, lines: list[bytes]) -> BinaryIO:
    """The file anew with these rows alone, put into the place of the old one in one step."""
    fresh = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    new = _locked(fresh)
    _write_all(new, row_format.header + b"".join(lines))
    os.fsync(new.fileno())
    fresh.replace(path)
    return new


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Unbuffered files may take a part at a time, as when the disk is nearly full."""
    while data:
        data = data[file.write(data) :]
    file.flush()
