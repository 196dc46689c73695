"""The moments of one traced request: when its stages began and ended, when its images were sent and came back.

Without tracing there is no trace, and each function here only reads a variable that is None. Times are Unix
nanoseconds of this host's clock.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from results.outcome import Done
from stream.entry import Entry


@dataclass(slots=True)
class RequestTrace:
    """`traceparent` names the request's span to other processes (W3C Trace Context).

    `stages` are name, begin and end. `sent_ns` and `reply_ns` say by the image's id when it was sent, and when its
    inference ended.
    """

    traceparent: str
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    sent_ns: dict[str, int] = field(default_factory=dict)
    reply_ns: dict[str, int] = field(default_factory=dict)


_current: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)


def start(traceparent: str) -> RequestTrace:
    """Record what this task and its child tasks do from now on."""
    trace = RequestTrace(traceparent)
    _current.set(trace)
    return trace


class Stage:
    """`with Stage("decode"):` records how long the block took, if the request is traced."""

    __slots__ = ("_began_ns", "_name", "_trace")

    def __init__(self, name: str) -> None:
        self._name = name
        self._trace = _current.get()

    def __enter__(self) -> None:
        if self._trace is not None:
            self._began_ns = time.time_ns()

    def __exit__(self, *_: object) -> None:
        if self._trace is not None:
            self._trace.stages.append((self._name, self._began_ns, time.time_ns()))


def mark_sent(entry: Entry) -> Entry:
    """The entry to send now, with the trace that it belongs to, if there is one."""
    trace = _current.get()
    if trace is None:
        return entry
    now_ns = trace.sent_ns[entry.id] = time.time_ns()
    return replace(entry, traceparent=trace.traceparent, sent_ns=now_ns)


def mark_answered(done: Done) -> None:
    """Record that the result of an image came. Its stages at the consumer say when the reply left."""
    trace = _current.get()
    if trace is not None and (sent_ns := trace.sent_ns.get(done.id)):
        trace.reply_ns[done.id] = sent_ns + round((done.queue_ms + done.run_ms) * 1_000_000)
