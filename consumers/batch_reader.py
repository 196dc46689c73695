"""Reads the entries of one batch: interactive images before bulk, and bulk never less than its share.

A person waits for an interactive image. So it should wait neither for a batch that was filled ahead of it, nor for many
bulk images in its own batch:

1. While bulk images arrive, a batch is put together when the model is free, and not while another batch runs.
2. Entries that were read and have no batch yet are kept here. COUNT of XREADGROUP counts for each stream, so that a
   read of all streams may bring more than a batch takes.
3. Bulk images fill up a batch with interactive images only as far as that stays short, and as the oldest interactive
   image is answered within the time of a whole batch. A batch of bulk images alone leaves as much time as the
   interactive images after it will take, at their present rate: both together are one batch.

On a device that is so fast that a whole batch takes next to no time, batches are filled ahead, and filled up.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from consumers.batch_size import BatchSizer
from consumers.in_flight import InFlight
from stream.entry import Entry
from stream.group import Delivery, Group

#: Time of a batch that a person does not notice, in seconds. Most GPUs need less for 32 images, most CPUs more.
_SHORT_S: Final = 0.05

#: Of a whole batch, the part that is short as well. Between two batches the model waits for some milliseconds: with
#: shorter batches, where each has an interactive image, bulk images would lose more of the capacity to that.
_SHORT_PART: Final = 0.25

#: The time over which the rate of interactive images is measured, in seconds: some batches.
_RATE_S: Final = 2.0


class BatchReader:
    """Reads the streams of one partition. At least the part `bulk_share` of all images are bulk, if so many wait."""

    def __init__(
        self,
        group: Group,
        in_flight: InFlight,
        sizer: BatchSizer,
        *,
        bulk_share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._in_flight = in_flight
        self._sizer = sizer
        self._bulk_share = bulk_share
        self._clock = clock
        self._interactive: list[Delivery] = []
        self._bulk: list[Delivery] = []
        self._returned: list[Delivery] = []
        #: Whether nothing that is kept would be read soon: this waits for entries, or nobody reads any more.
        self.waits = False
        #: Bulk images that are due by the share. Negative after batches that had more of them than that.
        self._due = 0.0
        self._bulk_ran = False
        #: When the latest interactive images were taken, in seconds of the clock, and how many.
        self._taken: deque[tuple[float, int]] = deque()

    @property
    def keeps(self) -> bool:
        """Whether entries are kept here."""
        return bool(self._returned or self._interactive or self._bulk)

    @property
    def late(self) -> bool:
        """Whether to put the next batch together only when the model is free."""
        return (self._bulk_ran or bool(self._bulk)) and not self._is_short

    @property
    def _is_short(self) -> bool:
        return self._sizer.batch_size * self._sizer.image_s <= _SHORT_S

    async def wait(self) -> None:
        """Wait for entries as `Group.read` does, and keep them: at most one of each stream. Not if any are kept."""
        if not self.keeps:
            await self._await_entries(1)

    async def _await_entries(self, count: int, rows: Sequence[memoryview] = ()) -> None:
        self.waits = True
        try:
            self._keep(await self._group.read(count, rows))
        finally:
            self.waits = False

    def keep_first(self, returned: Sequence[Delivery]) -> None:
        """Have these, which are held already, in batches of their own, next of all: they have waited once before."""
        self._returned += returned

    async def read(self, rows: Sequence[memoryview], *, wait: bool) -> list[Delivery]:
        """Deliveries for a batch of at most so many rows; pixels that were read now are in their rows.

        If no entries are kept, it may wait as `Group.read` does.
        """
        if self._returned:
            return self.take(len(rows))
        try:
            if self.keeps:
                await self._add_interactive(rows)
                await self._add_bulk(rows)
            elif wait:
                await self._await_entries(len(rows), rows)
            else:
                self._keep(await self._group.read(len(rows), rows, wait=False))
        except BaseException:
            self._leave_rows()  # They will be another batch's.
            raise
        return self._take(len(rows))

    async def read_ahead(self) -> None:
        """Keep bulk images for the next batch, so that the model will not wait for them."""
        if self.late and (missing := self._sizer.batch_size - len(self._bulk)) > 0:
            self._keep(await self._group.read(missing, wait=False, priority="bulk"))

    async def _add_interactive(self, rows: Sequence[memoryview]) -> None:
        ahead = rows[len(self._interactive) : len(rows) - self._reserved(len(rows))]
        if ahead:
            self._keep(await self._group.read(len(ahead), ahead, wait=False, priority="interactive"))

    async def _add_bulk(self, rows: Sequence[memoryview]) -> None:
        interactive, bulk = self._shares(len(rows))
        ahead = rows[interactive + len(self._bulk) : interactive + bulk]
        if ahead:
            self._keep(await self._group.read(len(ahead), ahead, wait=False, priority="bulk"))

    def _keep(self, found: list[Delivery]) -> None:
        for delivery in self._in_flight.add(found):
            (self._bulk if delivery.priority == "bulk" else self._interactive).append(delivery)

    def take(self, count: int) -> list[Delivery]:
        """A batch of at most `count` of the entries that are kept, interactive ones first."""
        if self._returned:
            batch, self._returned = self._returned[:count], self._returned[count:]
            return batch
        return self._take(count)

    def _take(self, count: int) -> list[Delivery]:
        interactive, room = self._shares(count)
        bulk = min(room, len(self._bulk))
        batch = self._interactive[:interactive] + self._bulk[:bulk]
        self._interactive, self._bulk = self._interactive[interactive:], self._bulk[bulk:]
        self._leave_rows()
        self._bulk_ran = bulk > 0
        if interactive:
            self._taken.append((self._clock(), interactive))
        due = self._due + self._bulk_share * len(batch) - bulk
        self._due = max(-count, min(due, count if self._bulk else 0))
        return batch

    def _shares(self, count: int) -> tuple[int, int]:
        """How many of the interactive images that are kept a batch of `count` takes, and for how many bulk images it
        has room."""
        reserved = self._reserved(count)
        interactive = min(len(self._interactive), count - reserved)
        room = count - interactive
        if self._is_short:
            return interactive, room
        if interactive:
            room = min(room, max(reserved, self._sizer.images_within(self._left_s(count)) - interactive))
        elif rate := self._interactive_per_s():
            # One more than on average: they do not come evenly.
            room = max(1, int((room - 1) / (1 + rate * self._sizer.image_s)))
        return interactive, room

    def _left_s(self, count: int) -> float:
        """How long the next batch, of interactive images and of bulk images that fill it up, may take."""
        whole_s = count * self._sizer.image_s
        oldest_ms = min(delivery.accepted_ms for delivery in self._interactive)
        waited_s = (self._in_flight.clock.now_ms() - oldest_ms) / 1000
        return max(0.0, min(max(_SHORT_S, _SHORT_PART * whole_s), whole_s - waited_s))

    def _interactive_per_s(self) -> float:
        """Interactive images that this consumer takes in a second, at present."""
        now_s = self._clock()
        while self._taken and self._taken[0][0] < now_s - _RATE_S:
            self._taken.popleft()
        return sum(count for _, count in self._taken) / _RATE_S

    def _reserved(self, count: int) -> int:
        """Rows for bulk images that no interactive image may take."""
        return min(len(self._bulk), max(0, int(self._due + self._bulk_share * count)))

    def _leave_rows(self) -> None:
        """Copy the pixels of entries that are kept out of the rows that they were read into."""
        self._interactive = [_detached(delivery) for delivery in self._interactive]
        self._bulk = [_detached(delivery) for delivery in self._bulk]


def _detached(delivery: Delivery) -> Delivery:
    """The delivery with pixels of its own."""
    entry = delivery.entry
    if isinstance(entry, Entry) and isinstance(entry.pixels, memoryview):
        return replace(delivery, entry=replace(entry, pixels=bytes(entry.pixels)))
    return delivery
