"""Formats every log line of every process, as text for people or as JSON.

An event is a message with its fields as `name=%s`: "claimed entry=%s deliveries=%d". Text keeps the line as it is;
JSON has each field under its name too. Each line names the requests that it is about, if their ids are known, and the
partition if there are several. Bytes, passwords and line breaks are removed here, so that no caller has to.
"""

import json
import logging
import re
import sys
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

LogFormat = Literal["human", "json"]

_LINE = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"

#: A conversion of a message's template, with the name of its field where it has one; `%%` is none.
_FIELD = re.compile(r"%%|(?:\b(\w+)=)?%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]")

#: What comes before an @ in a URL, and what follows the word Bearer or the name of a header for keys, in text or where
#: Python shows headers. The groups are what stays.
_SECRETS = re.compile(
    r"(://)[^\s/@]+(?=@)|(bearer )\S+"
    r"|((?:x-api-key|authorization)['\"]?[:,] ?(?:b(?=['\"]))?['\"]?)(?:(?:basic|bearer) )?[^\s'\"]+",
    re.IGNORECASE,
)

#: Characters with which a client could forge a line or command a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

#: Most characters of one message: an error may quote what it was about.
_LONGEST = 4000

#: Request ids of what this task and its children do, in the order in which they were made. Each unit of work sets a new
#: list; None: nobody wants to know.
request_ids: Final[ContextVar[list[str] | None]] = ContextVar("request_ids", default=None)

#: The trace that this task and its children belong to, 32 hexadecimal digits.
_trace: ContextVar[str | None] = ContextVar("trace", default=None)


#: The partition that this task and its children work for.
_partition: ContextVar[int | None] = ContextVar("partition", default=None)

#: The partitions that tasks of this process have worked for. Lines name theirs once there are several.
_partitions: Final[set[int]] = set()


def set_partition(number: int) -> None:
    """From now on this task works for this partition."""
    _partitions.add(number)
    _partition.set(number)


def partition_context(number: int) -> Context:
    """The context for a task that works for this partition."""
    context = copy_context()
    context.run(set_partition, number)
    return context


def set_trace(trace_id: str) -> None:
    """The present unit of work belongs to this trace."""
    _trace.set(trace_id)


def configure(level: str, log_format: LogFormat) -> None:
    """Log to standard error, one line an event, from `level` on; uvicorn's loggers and warnings included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else HumanFormatter(_LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Its lines are seldom errors, and the name would say so in each.
    logging.getLogger("uvicorn.error").name = "uvicorn"
    logging.getLogger("asyncio").addFilter(_is_news)
    if log_format == "json":
        sys.excepthook = _log_the_end


def _is_news(record: logging.LogRecord) -> bool:
    """False for a connection with TLS that was given up just when its handshake ended: uvloop 0.23 still writes to it.

    The caller that gave it up has an error of its own.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_closed = isinstance(error, RuntimeError) and str(error).endswith("the handler is closed")
    return not (is_closed and "Fatal error on SSL protocol" in record.getMessage())


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("python").critical("ended by an exception", exc_info=(kind, error, trace))


def log_refusal(program: str, why: object) -> None:
    """Log why a program does not start, for programs that read its log."""
    logging.getLogger(program.rpartition(" ")[2]).critical("%s: %s", program, why)


def fields(record: logging.LogRecord) -> dict[str, object]:
    """The named values of an event, `request` with the ids of the requests that it is about, and their `partition`."""
    found: dict[str, object] = {}
    if isinstance(record.args, tuple):
        names = [match[1] for match in _FIELD.finditer(str(record.msg)) if match[0] != "%%"]
        found = {name: _plain(value) for name, value in zip(names, record.args, strict=False) if name}
    if "request" not in found and (ids := request_ids.get()):
        found["request"] = ",".join(ids)
    if trace_id := _trace.get():
        found["trace_id"] = trace_id
    if (partition := _partition.get()) is not None and len(_partitions) > 1:
        found.setdefault("partition", partition)
    return found


def message(record: logging.LogRecord) -> str:
    """The event in words, without bytes and passwords."""
    arguments = tuple(_plain(one) for one in record.args) if isinstance(record.args, tuple) else record.args
    words = str(record.msg) % arguments if arguments else str(record.msg)
    return _masked(words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…")


def _masked(text: str) -> str:
    return _SECRETS.sub(lambda found: "".join(kept for kept in found.groups() if kept) + "***", text)


def _plain(value: object) -> object:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case bool() | int() | float() | None:
            return value
        case BaseException() if not str(value):
            # asyncio's TimeoutError has no words.
            return type(value).__name__
        case _:
            return _masked(str(value))


#: Fields that a line for people names even if its message does not.
_ADDED: Final = ("request", "partition")


class HumanFormatter(logging.Formatter):
    """A line for people; the traceback of an error follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        words = _CONTROL.sub(lambda found: repr(found[0])[1:-1], message(record))
        about = fields(record)
        added = [f" {name}={about[name]}" for name in _ADDED if name in about and f"{name}=" not in words]
        record.message = words + "".join(added)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 (logging's name)
        return _masked(super().formatException(ei))  # type: ignore[arg-type]


class JsonFormatter(logging.Formatter):
    """A line for programs: time (RFC 3339, UTC), level, logger, message, exception, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message(record),
        }
        line.update((name, value) for name, value in fields(record).items() if name not in line)
        if record.exc_info:
            line["exception"] = _masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
