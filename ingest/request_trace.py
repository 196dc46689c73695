"""The moments of one traced request: when its stages began and ended, when its images were sent and came back.

Without tracing there is no trace: `current_trace` is None. Times are Unix nanoseconds of this host's clock.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final

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

    def end_stage(self, name: str, lasted_s: float) -> None:
        """Record a stage that has just ended."""
        now_ns = time.time_ns()
        self.stages.append((name, now_ns - round(lasted_s * 1e9), now_ns))

    def mark_sent(self, entry: Entry) -> Entry:
        """The entry to send now, with this trace."""
        now_ns = self.sent_ns[entry.id] = time.time_ns()
        return replace(entry, traceparent=self.traceparent, sent_ns=now_ns)

    def mark_answered(self, done: Done) -> None:
        """Record that the result of an image came. Its stages at the consumer say when the reply left."""
        if sent_ns := self.sent_ns.get(done.id):
            self.reply_ns[done.id] = sent_ns + round((done.queue_ms + done.run_ms) * 1_000_000)


#: The trace of what this task and its child tasks do.
current_trace: Final[ContextVar[RequestTrace | None]] = ContextVar("request_trace", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Record how long the block took, if the request is traced."""
    began_s = time.perf_counter()
    try:
        yield
    finally:
        if trace := current_trace.get():
            trace.end_stage(name, time.perf_counter() - began_s)
