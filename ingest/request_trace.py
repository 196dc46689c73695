"""One traced request on its way: when its steps began and ended, and when its images left and came back.

Collects moments, and knows no OpenTelemetry: where nothing is traced there is no journey, and whoever passes here
looks at a variable that is None. Times are Unix nanoseconds by this host's clock.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from results.outcome import Done
from stream.entry import Entry


@dataclass(slots=True)
class Journey:
    """`traceparent` names the request's span to others (W3C Trace Context).

    `steps` are name, begin and end; `sent_ns` and `reply_ns` say by an image's id when it was sent, and when its
    inference had ended.
    """

    traceparent: str
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    sent_ns: dict[str, int] = field(default_factory=dict)
    reply_ns: dict[str, int] = field(default_factory=dict)


_present: ContextVar[Journey | None] = ContextVar("journey", default=None)


def begin(traceparent: str) -> Journey:
    """What this task and its children do from here on is part of this journey."""
    journey = Journey(traceparent)
    _present.set(journey)
    return journey


class Step:
    """`with Step("decode"):` notes how long this took, where there is a journey."""

    __slots__ = ("_began_ns", "_journey", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._journey = _present.get()

    def __enter__(self) -> None:
        if self._journey is not None:
            self._began_ns = time.time_ns()

    def __exit__(self, *_: object) -> None:
        if self._journey is not None:
            self._journey.steps.append((self._name, self._began_ns, time.time_ns()))


def sent(entry: Entry) -> Entry:
    """The entry as it is sent now: with the trace that it belongs to, where there is one."""
    journey = _present.get()
    if journey is None:
        return entry
    now_ns = journey.sent_ns[entry.id] = time.time_ns()
    return replace(entry, traceparent=journey.traceparent, sent_ns=now_ns)


def answered(done: Done) -> None:
    """The answer to an image has come; what the consumer says of its stages tells when the way back began."""
    journey = _present.get()
    if journey is not None and (sent_ns := journey.sent_ns.get(done.id)):
        journey.reply_ns[done.id] = sent_ns + round((done.queue_ms + done.run_ms) * 1_000_000)
