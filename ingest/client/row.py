"""One row of the output, written and read as CSV or as JSON lines."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ingest.client.decision import Prediction, Result
from ingest.client.item import STDIN, Item, Key, key, shown


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one image. `frame` and `time_s` (seconds from the start) are set for videos only."""

    path: str
    frame: int | None = None
    time_s: float | None = None
    labels: tuple[Prediction, ...] = ()
    error: str = ""
    model: str = ""
    version: str = ""
    id: str = ""
    values: tuple[float, ...] = ()

    @classmethod
    def classified(cls, item: Item, result: Result) -> Self:
        by = (result.model, result.version, result.id)
        return cls(shown(item.path), item.frame, item.time_s, result.predictions, "", *by, result.values)

    @classmethod
    def failed(cls, item: Item, reason: str) -> Self:
        return cls(shown(item.path), item.frame, item.time_s, error=" ".join(reason.split()))


@dataclass(frozen=True, slots=True)
class ExistingRow:
    """What a later run needs to know of a row that an earlier run wrote. `key` is None for standard input.

    `model` and `version` made the predictions; both are empty in a row with an error.
    """

    key: Key | None
    failed: bool
    model: str
    version: str


class RowFormat(Protocol):
    """`header` opens the file and `opening` each row. `existing` raises ValueError for a line of another format."""

    @property
    def header(self) -> bytes: ...
    @property
    def opening(self) -> bytes: ...
    @property
    def quotes_line_feeds(self) -> bool: ...
    def line(self, row: Row) -> bytes: ...
    def existing(self, line: bytes) -> ExistingRow: ...


class Csv:
    """RFC 4180 with line feeds: path [, frame, time_s], label_1, probability_1, ..., error, model, version, id."""

    opening = b""
    quotes_line_feeds = True

    def __init__(self, *, top: int, videos: bool) -> None:
        ranks = range(1, top + 1)
        source = ["path", "frame", "time_s"] if videos else ["path"]
        pairs = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        self._columns = [*source, *pairs, "error", "model", "version", "id"]
        self._top = top
        self._videos = videos

    @staticmethod
    def labels_in(header: bytes) -> int:
        """How many labels a file with this first line has room for; 0 if it is the header of no such file."""
        return sum(name.startswith(b"label_") for name in header.split(b","))

    @property
    def header(self) -> bytes:
        return _csv_line(self._columns)

    def line(self, row: Row) -> bytes:
        source = [row.path, _number(row.frame), _number(row.time_s)] if self._videos else [row.path]
        pairs = [text for label, value in row.labels[: self._top] for text in (label, _decimal(value))]
        blanks = [""] * (2 * self._top - len(pairs))
        return _csv_line([*source, *pairs, *blanks, row.error, row.model, row.version, row.id])

    def existing(self, line: bytes) -> ExistingRow:
        (fields,) = csv.reader([line.decode()], strict=True)
        found = dict(zip(self._columns, fields, strict=True))
        frame = found.get("frame")
        at = _existing_key(found["path"], int(frame) if frame else None)
        return ExistingRow(at, bool(found["error"]), found["model"], found["version"])


def _decimal(probability: float) -> str:
    """Without an exponent, which a column would otherwise mix with decimals. The service sends seven digits."""
    return f"{probability:.7f}".rstrip("0").rstrip(".")


class JsonLines:
    """One JSON object for each row, with the field names of the service's responses."""

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
        if row.values:
            document["values"] = row.values
        document |= {"error": row.error or None, "model": row.model, "version": row.version, "id": row.id}
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"

    def existing(self, line: bytes) -> ExistingRow:
        document = json.loads(line)
        try:
            at = _existing_key(document["path"], document.get("frame"))
            by = (str(document.get(name) or "") for name in ("model", "version"))
            return ExistingRow(at, bool(document["error"]), *by)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("a row without path or error") from error


def _existing_key(path: str, frame: int | None) -> Key | None:
    return None if path == STDIN else key(path, frame)


def _csv_line(fields: list[str]) -> bytes:
    text = io.StringIO()
    # The writer quotes a field that contains its own line end, but not one with a carriage return.
    returns = any("\r" in field for field in fields)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerow(fields)
    return text.getvalue().encode()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
