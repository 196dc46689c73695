"""What a consumer works on and has done so far: its state, its counts, and its entries in flight. No I/O."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from stream.group import Delivery
from stream.keys import PRIORITIES, Priority

#: Bounds in seconds, two or three for each decade: from an empty queue on a fast GPU to the default deadline of 30 s.
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class QueueTimes:
    """How many images waited up to each of the bounds and beyond the last one, and the sum of their times."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, time_s: float) -> None:
        self.counts[bisect_left(BOUNDS_S, time_s)] += 1
        self.sum_s += time_s


@dataclass(slots=True)
class Counts:
    """Events since the start, for the heartbeat and the metrics. One thread writes, and another may read meanwhile."""

    images: int = 0
    bulk_images: int = 0
    batches: int = 0
    last_batch: int = 0
    reclaimed: int = 0
    superseded: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0
    dead_letters: int = 0
    queue: dict[Priority, QueueTimes] = field(default_factory=lambda: {one: QueueTimes() for one in PRIORITIES})


@dataclass(slots=True)
class WorkerState:
    """State that all partitions of a worker share.

    `run_began_s` is when the present inference began, in seconds of the monotonic clock, and None while none runs.
    `failure` is why this consumer must stop although no one asked it to; empty while all is well. `refused_version` is
    a version that was to replace the served one, and why it does not; empty if there is none. `passed_over` is a higher
    version that is not wanted, and why. `load_requests` is the number of the newest request to load the model that was
    carried out. `stopping_since_s` is a time of the monotonic clock.
    """

    counts: Counts = field(default_factory=Counts)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    partitions: int = 1
    run_began_s: float | None = None
    failure: str = ""
    refused_version: str = ""
    passed_over: str = ""
    load_requests: int = 0
    stopping_since_s: float = 0.0

    def stop(self) -> None:
        """Fetch nothing more, and finish what is in flight."""
        if not self.stopping.is_set():
            self.stopping_since_s = time.monotonic()
            self.stopping.set()

    def run_lasts_s(self) -> float:
        """Seconds since the present inference began; 0 while none runs."""
        return 0.0 if self.run_began_s is None else time.monotonic() - self.run_began_s

    def fail(self, reason: str) -> None:
        """This consumer cannot work any more: it stops, and hands its entries back."""
        self.failure = self.failure or reason
        self.stop()


class RedisClock:
    """Redis's clock, estimated between heartbeats, so that hosts need not agree on the time."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def set(self, now_ms: int) -> None:
        self._offset_ms = now_ms - time.monotonic() * 1000

    def now_ms(self) -> float:
        assert self._offset_ms is not None, "the first heartbeat comes before the first read"
        return time.monotonic() * 1000 + self._offset_ms


@dataclass(slots=True)
class InFlight:
    """Entry ids of one partition that this consumer has not completed yet, and the clock of the partition's Redis.

    Those in `running` are in the model. Those in `completing` were sent to Redis as completed, and Redis has not
    confirmed it yet. Those in `suspects` were in the model when it failed for good, or hung: one of them may be the
    cause.
    """

    worker: WorkerState = field(default_factory=WorkerState)
    partition: int = 0
    held: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    completing: set[str] = field(default_factory=set)
    clock: RedisClock = field(default_factory=RedisClock)

    @property
    def counts(self) -> Counts:
        return self.worker.counts

    def add(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Note deliveries as held; returns those that were not held already."""
        new = [delivery for delivery in deliveries if delivery.entry_id not in self.held]
        self.held.update(delivery.entry_id for delivery in new)
        return new

    def remove(self, entry_ids: Iterable[str]) -> None:
        """Redis has confirmed that these are completed."""
        self.held.difference_update(entry_ids)
        self.completing.difference_update(entry_ids)
