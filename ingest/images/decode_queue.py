"""The images that wait for one kind of decoder: bounded by number, by time and by the bytes of their files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.backpressure import BacklogLimit
from ingest.errors import Overloaded
from stream.keys import PRIORITIES, Priority


class DecodeQueue:
    """Counts the images that wait or are being decoded, and refuses more than the limits allow.

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
            raise Overloaded(
                f"{pending} images wait to be decoded. Send the image again after the time in Retry-After.",
                retry_after_s=self._backlog.retry_after_s(pending),
            )
