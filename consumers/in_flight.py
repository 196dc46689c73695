"""What this consumer holds, from delivery to completion, and what it has done so far. No I/O."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.group import Delivery


@dataclass(slots=True)
class Counts:
    """Events since the start, for the heartbeat and the logs."""

    images: int = 0
    batches: int = 0
    last_batch: int = 0
    reclaimed: int = 0
    superseded: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0
    dead: int = 0


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
class Activity:
    """What a consumer does and did in all its lanes; when the present run began, in seconds of the monotonic clock."""

    counts: Counts = field(default_factory=Counts)
    run_began_s: float | None = None

    def run_lasts_s(self) -> float:
        """Seconds since the present run began; 0 while none runs."""
        return 0.0 if self.run_began_s is None else time.monotonic() - self.run_began_s


@dataclass(slots=True)
class Holdings:
    """Entry ids of one partition in this consumer's hands, and the clock of the Redis that gave them.

    Of those that are held, some are `leaving`: Redis was told that they are completed, and has not confirmed it yet.
    """

    activity: Activity = field(default_factory=Activity)
    held: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    clock: RedisClock = field(default_factory=RedisClock)

    @property
    def counts(self) -> Counts:
        return self.activity.counts

    def take(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Note deliveries as held; returns those that were not held already."""
        new = [delivery for delivery in deliveries if delivery.entry_id not in self.held]
        self.held.update(delivery.entry_id for delivery in new)
        return new

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Redis has confirmed that they are completed."""
        self.held.difference_update(entry_ids)
        self.leaving.difference_update(entry_ids)
