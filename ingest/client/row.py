"""One line of the output, and its row_format as CSV and as JSON. Reads and writes no file."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ingest.client.decision import Classified, Label
from ingest.client.item import STDIN, Item, Key, key, shown


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one picture in the end. `frame` and `time_s` (seconds from the start) only of videos."""

    path: str
    frame: int | None = None
    time_s: float | None = None
    labels: tuple[Label, ...] = ()
    error: str = ""
    model: str = ""
    version: str = ""
    id: str = ""

    @classmethod
    def classified_row(cls, item: Item, by: Classified) -> Self:
        return cls(shown(item.path), item.frame, item.time_s, by.labels, "", by.model, by.version, by.id)

    @classmethod
    def failed(cls, item: Item, reason: str) -> Self:
        return cls(shown(item.path), item.frame, item.time_s, error=" ".join(reason.split()))


@dataclass(frozen=True, slots=True)
class ExistingRow:
    """What a later run must know of a row that an earlier one wrote. `key` is None for standard input."""

    key: Key | None
    failed: bool


class RowFormat(Protocol):
    """How rows are written. `header` opens the file, `opening` each row; `existing` raises ValueError for other lines."""

    @property
    def header(self) -> bytes: ...
    @property
    def opening(self) -> bytes: ...
    @property
    def quotes_line_feeds(self) -> bool: ...
    def line(self, row: Row) -> bytes: ...
    def existing(self, line: bytes) -> ExistingRow: ...


class Csv:
    """Comma-separated by RFC 4180 with line feeds: path [, frame, time_s], label_1, probability_1, ..., id."""

    opening = b""
    quotes_line_feeds = True

    def __init__(self, *, top: int, videos: bool) -> None:
        ranks = range(1, top + 1)
        place = ["path", "frame", "time_s"] if videos else ["path"]
        pairs = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        self._columns = [*place, *pairs, "error", "model", "version", "id"]
        self._top = top
        self._videos = videos

    @property
    def header(self) -> bytes:
        return _csv_line(self._columns)

    def line(self, row: Row) -> bytes:
        place = [row.path, _number(row.frame), _number(row.time_s)] if self._videos else [row.path]
        pairs = [text for label, value in row.labels[: self._top] for text in (label, f"{value:.7g}")]
        blanks = [""] * (2 * self._top - len(pairs))
        return _csv_line([*place, *pairs, *blanks, row.error, row.model, row.version, row.id])

    def existing(self, line: bytes) -> ExistingRow:
        (fields,) = csv.reader([line.decode()], strict=True)
        found = dict(zip(self._columns, fields, strict=True))
        frame = found.get("frame")
        return ExistingRow(_existing_key(found["path"], int(frame) if frame else None), bool(found["error"]))


class JsonLines:
    """One JSON object for each row, with the service's own names for what it answered."""

    header = b""
    opening = b'{"path": '
    quotes_line_feeds = False

    def __init__(self, *, videos: bool) -> None:
        self._videos = videos

    def line(self, row: Row) -> bytes:
        document: dict[str, Any] = {"path": row.path}
        if self._videos:
            document |= {"frame": row.frame, "time_s": row.time_s}
        document["predictions"] = [{"label": label, "probability": value} for label, value in row.labels]
        document |= {"error": row.error or None, "model": row.model, "version": row.version, "id": row.id}
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"

    def existing(self, line: bytes) -> ExistingRow:
        document = json.loads(line)
        try:
            return ExistingRow(_existing_key(document["path"], document.get("frame")), bool(document["error"]))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("a row without a path or an error") from error


def _existing_key(path: str, frame: int | None) -> Key | None:
    return None if path == STDIN else key(path, frame)


def _csv_line(fields: list[str]) -> bytes:
    text = io.StringIO()
    # The writer quotes what holds its own line end; a carriage return in a file's name would come back unquoted.
    returns = any("\r" in field for field in fields)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerow(fields)
    return text.getvalue().encode()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
