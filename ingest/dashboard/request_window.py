"""The responses of the last minute, for the page: how many, how fast, and in which batches.

Latencies are counted in buckets that grow by 5 %. So a percentile is right within 2.5 %, and a minute with thousands of
responses a second takes as little memory as a quiet one.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

#: Length of the window in whole seconds.
WINDOW_S = 60

_GROWTH = math.log(1.05)

#: The client should send the request again later: overload or no consumer (503), or beyond the rate limit (429).
_REFUSED = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Summary:
    """The last minute. Percentiles are those of the 2xx responses in milliseconds, None if there was none.

    `batches` counts the responses by the size of the batch in which their image ran.
    """

    statuses: dict[int, int]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    batches: dict[int, int]


@dataclass(slots=True)
class Counts:
    """Responses by status, by bucket of the latency (2xx only), and by the size of the batch."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    batches: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        self.statuses.update(other.statuses)
        self.latencies.update(other.latencies)
        self.batches.update(other.batches)

    def summary(self) -> Summary:
        ranked = sorted(self.latencies.items())
        return Summary(
            dict(sorted(self.statuses.items())),
            _percentile(ranked, 0.50),
            _percentile(ranked, 0.95),
            _percentile(ranked, 0.99),
            dict(sorted(self.batches.items())),
        )


@dataclass(slots=True)
class _Second:
    at_s: int
    counts: Counts = field(default_factory=Counts)


class RateEstimator:
    """Growth per second of a count that only grows, over the last `window_s` seconds."""

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, count: int) -> float | None:
        """The rate, given that the count is `count` now. None for the first sample, and if the count started again."""
        if self._samples and (count < self._samples[-1][1] or at_s < self._samples[-1][0]):
            self._samples.clear()
        self._samples.append((at_s, count))
        while len(self._samples) > 2 and self._samples[1][0] <= at_s - self._window_s:
            self._samples.popleft()
        since_s, before = self._samples[0]
        return (count - before) / (at_s - since_s) if at_s > since_s else None


class RequestWindow:
    """Counts responses. `answered` and `refused` count from the start of the process, for rates."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[_Second] = deque()
        self.answered = 0
        self.refused = 0

    def note(self, status: int, seconds: float, *, batch: int = 0) -> None:
        """Count one response. `batch` is 0 if no batch is known."""
        counts = self._now()
        counts.statuses[status] += 1
        if status in _REFUSED:
            self.refused += 1
        else:
            self.answered += 1
        if 200 <= status < 300:
            # A refusal takes a millisecond. If it counted, an overloaded service would look fast.
            counts.latencies[_bucket(seconds * 1000)] += 1
        if batch:
            counts.batches[batch] += 1

    def counts(self) -> Counts:
        """Everything of the last minute."""
        self._forget(int(self._clock()))
        total = Counts()
        for second in self._seconds:
            total.add(second.counts)
        return total

    def summary(self) -> Summary:
        return self.counts().summary()

    def _now(self) -> Counts:
        at_s = int(self._clock())
        if not self._seconds or self._seconds[-1].at_s != at_s:
            self._forget(at_s)
            self._seconds.append(_Second(at_s))
        return self._seconds[-1].counts

    def _forget(self, at_s: int) -> None:
        while self._seconds and self._seconds[0].at_s <= at_s - WINDOW_S:
            self._seconds.popleft()


def _bucket(ms: float) -> int:
    return round(math.log(max(ms, 0.01)) / _GROWTH)


def _percentile(ranked: list[tuple[int, int]], part: float) -> float | None:
    """The nearest rank: the smallest value that is at least as large as this part of all values."""
    rank = math.ceil(part * sum(count for _, count in ranked))
    for bucket, count in ranked:
        rank -= count
        if rank <= 0:
            return round(math.exp(bucket * _GROWTH), 2)
    return None
