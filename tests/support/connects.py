"""Records where this process connects to, as the interpreter's audit events tell it (PEP 578)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_recording: list[list[Any]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for record in _recording:
            record.append(arguments[1])


sys.addaudithook(_audit)


@contextmanager
def recorded_connects() -> Iterator[list[Any]]:
    """The addresses of all connections that Python's sockets make within this block, whether they succeed or not."""
    record: list[Any] = []
    _recording.append(record)
    try:
        yield record
    finally:
        _recording.remove(record)
