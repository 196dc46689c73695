"""Backpressure: limits on waiting images, by number and by time, that refuse work before it costs anything.

One limit bounds the images in the stream, another those that wait to be decoded. Without them an overloaded service
would decode images that it then refuses, and take the cores from the consumers: the more is offered, the less is done.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from ingest.errors import Overloaded
from stream.keys import PRIORITIES, Priority

#: Fewest images that may wait, whatever the rate: one batch for a consumer that has just started.
_MIN_LIMIT: Final = 32

#: The share of the queue that drains before images are accepted again, and the longest such pause in seconds.
_DRAINED_SHARE: Final = 0.1
_MAX_CLOSED_S: Final = 0.5

#: Retry-After in seconds: where no rate is known to compute it from, and its upper bound where one is known.
_DEFAULT_RETRY_S: Final = 2.0
_MAX_RETRY_S: Final = 60.0


class BacklogLimit:
    """Limits the backlog to `max_backlog` images, and to what is done within `max_wait_s` at the measured rate.

    `limit` is how many images may wait now. While it `is_closed`, any image is refused.
    """

    def __init__(self, *, max_backlog: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_backlog = max_backlog
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._images_per_s = 0.0
        self.limit = max_backlog
        self._closed_until_s = -math.inf

    def set_rate(self, images_per_s: float) -> None:
        """The rate of all live consumers, or of all threads, together; 0 if unknown."""
        self._images_per_s = images_per_s
        in_time = max(_MIN_LIMIT, int(images_per_s * self._max_wait_s)) if images_per_s else self._max_backlog
        self.limit = min(self._max_backlog, in_time)

    @property
    def is_closed(self) -> bool:
        """Whether a full queue was met so recently that it has hardly drained since."""
        return self._clock() < self._closed_until_s

    def close_for(self, backlog: int) -> None:
        """The queue was full with this many images: refuse others until a part of them is done."""
        self._closed_until_s = self._clock() + min(self._drain_s(backlog) * _DRAINED_SHARE, _MAX_CLOSED_S)

    def retry_after_s(self, backlog: int) -> float:
        """When the backlog will have drained, as far as is known."""
        return min(self._drain_s(backlog), _MAX_RETRY_S)

    def reached(self) -> str:
        """Which limit a full queue has reached, for messages."""
        if self.limit < self._max_backlog:
            return f"more than {self._max_wait_s:g} s of work"
        return "as many as max_backlog allows"

    def _drain_s(self, backlog: int) -> float:
        return backlog / self._images_per_s if self._images_per_s > 0 else _DEFAULT_RETRY_S


class DecodeQueue:
    """Counts the images that wait for one kind of decoder or are being decoded, and refuses more than the limits allow.

    `backlog` limits them by number and, at the measured speed, by time. `max_bytes` limits the size of their files. An
    image is accepted whatever its size if no other one waits. Each priority class has these limits to itself, and only
    `bulk_slots` bulk images may stand before an interactive one.
    """

    def __init__(self, backlog: BacklogLimit, *, max_bytes: int, bulk_slots: int) -> None:
        self._backlog = backlog
        self._max_bytes = max_bytes
        self._bulk_slots = asyncio.Semaphore(bulk_slots)
        self._pending: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._pending_bytes: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)

    def __len__(self) -> int:
        return sum(self._pending.values())

    @asynccontextmanager
    async def enter(self, size: int, priority: Priority) -> AsyncIterator[None]:
        """Decode a file of `size` bytes within this block. Raises Overloaded."""
        self._refuse_if_full(size, priority)
        self._pending[priority] += 1
        self._pending_bytes[priority] += size
        try:
            if priority == "interactive":
                yield
            else:
                async with self._bulk_slots:
                    yield
        finally:
            self._pending[priority] -= 1
            self._pending_bytes[priority] -= size

    def _refuse_if_full(self, size: int, priority: Priority) -> None:
        pending = self._pending[priority]
        too_many = pending >= self._backlog.limit
        too_large = pending > 0 and self._pending_bytes[priority] + size > self._max_bytes
        if too_many or too_large:
            reached = self._backlog.reached() if too_many else "with as many bytes as may wait"
            raise Overloaded(
                f"{pending} images wait to be decoded, {reached}. Send the image again after the time in Retry-After.",
                retry_after_s=self._backlog.retry_after_s(pending),
            )
