"""The output file: opens, repairs and continues it, one row at a time.

Each row goes to the operating system whole, so SIGKILL loses no row that was written. A full disk or a power cut can
still leave an incomplete last line, which is removed when the file is opened again.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from ingest.client.item import Key
from ingest.client.row import ExistingRow, Row, RowFormat

if sys.platform != "win32":
    import fcntl

#: Longest incomplete line, in bytes. A longer one was not written by this client, and is not removed.
_MAX_INCOMPLETE = 2**16


class OutputError(Exception):
    """The file cannot be written, or this client did not write it; the message says which and why."""


class Output:
    """Writes rows. `done` maps the key of each earlier row to whether that row has an error.

    `made_by` has the models of the earlier rows, with their versions. Another model's rows would not fit them.
    """

    def __init__(
        self,
        file: BinaryIO,
        row_format: RowFormat,
        done: dict[Key, bool],
        close: Callable[[], None],
        made_by: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.close = close
        self._file = file
        self._row_format = row_format
        self.done = done
        self.made_by = made_by

    def check_model(self, name: str) -> None:
        """Raises OutputError if the earlier rows are of other models."""
        models = sorted({model for model, _ in self.made_by})
        if models and name not in models:
            raise OutputError(f"the output has rows of {', '.join(models)}, not of {name}; choose another --output")

    def write(self, row: Row) -> None:
        """Raises OutputError, and BrokenPipeError if the reader of a pipe has closed it."""
        if row.model:
            self.check_model(row.model)
        try:
            _write_all(self._file, self._row_format.line(row))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the output cannot be written: {error.strerror}") from error


def to_stream(file: BinaryIO, row_format: RowFormat) -> Output:
    """Rows to standard output, which has no earlier rows."""
    _write_all(file, row_format.header)
    return Output(file, row_format, {}, file.flush)


def to_file(path: Path, row_format: RowFormat, *, retry_errors: bool) -> Output:
    """Rows to the end of a file, which is created if needed. `retry_errors`: remove rows with an error first."""
    with ExitStack() as opened:
        try:
            file = opened.enter_context(_locked(path))
            # A run that was killed while it rewrote the file has left this one.
            _rewrite_path(path).unlink(missing_ok=True)
            ours = list(_ours(file, row_format, path))
            if retry_errors and any(row.failed for row, _ in ours):
                ours = [each for each in ours if not each[0].failed]
                file = opened.enter_context(_rewritten(path, row_format, [line for _, line in ours]))
            if file.seek(0, os.SEEK_END) == 0:
                _write_all(file, row_format.header)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error
        files = opened.pop_all()
    made_by = frozenset((row.model, row.version) for row, _ in ours if row.model)
    return Output(file, row_format, {row.key: row.failed for row, _ in ours if row.key}, files.close, made_by)


def _locked(path: Path) -> BinaryIO:
    """Opens the file for this run alone: two runs at once would write rows twice."""
    file = path.open("a+b", buffering=0)
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OutputError(f"{path}: another run writes to it") from error
    return file


def _ours(file: BinaryIO, row_format: RowFormat, path: Path) -> Iterator[tuple[ExistingRow, bytes]]:
    """Each row with its line. Removes an incomplete last line; raises OutputError for another format."""
    end = 0
    for number, line in enumerate(_lines(file, row_format), start=1):
        if not line.endswith(b"\n"):
            _check_incomplete(line, row_format, path, first=number == 1)
            file.truncate(end)
            return
        end += len(line)
        if number == 1 and row_format.header:
            if line != row_format.header:
                raise OutputError(f"{path}: has other columns than this run writes; choose another --output")
            continue
        try:
            existing = row_format.existing(line)
        except ValueError as error:
            raise OutputError(f"{path}: line {number} was not written by this client ({error})") from error
        yield existing, line


def _check_incomplete(line: bytes, row_format: RowFormat, path: Path, *, first: bool) -> None:
    """Raises OutputError unless this client may have written the beginning of the line."""
    begins = row_format.header if first and row_format.header else row_format.opening
    if len(line) > _MAX_INCOMPLETE or line[: len(begins)] != begins[: len(line)]:
        raise OutputError(f"{path}: does not end in a row that this client wrote; choose another --output")


def _lines(file: BinaryIO, row_format: RowFormat) -> Iterator[bytes]:
    """The file's lines with their line feeds. A line feed within quotes does not end a line."""
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
        yield b"".join(parts).rstrip(b"\n")  # a quote is still open, so the line is incomplete


def _rewritten(path: Path, row_format: RowFormat, lines: list[bytes]) -> BinaryIO:
    """Replaces the file in one step by one with these rows only."""
    fresh = _rewrite_path(path)
    new = _locked(fresh)
    _write_all(new, row_format.header + b"".join(lines))
    os.fsync(new.fileno())
    fresh.replace(path)
    return new


def _rewrite_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.sluice-new")


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered write may take only a part, for example on a nearly full disk."""
    while data:
        data = data[file.write(data) :]
    file.flush()
