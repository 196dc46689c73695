"""Intake: entries become batches. Reads new ones, and claims one by one what dead consumers held.

Knows no inference. A batch's slot is taken before reading, so that at most one batch waits while another runs.
"""

import asyncio
import logging

from redis.exceptions import RedisError, ResponseError

from consumers.batch import Batch, entry_of, request_of
from consumers.batch_size import Pace
from consumers.buffer_pool import Belt, Slot
from consumers.completer import Outlet
from consumers.in_flight import Holdings
from consumers.inference import Runner
from results.completion import Completed
from results.outcome import Failed
from stream.connection.clients import Backoff, passes_by_itself
from stream.entry import Entry, MalformedEntry
from stream.group import Delivery, Group

logger = logging.getLogger(__name__)

#: A read, a run and a completion take about a millisecond of CPU, whatever they carry: where images follow each other
#: closely, those that arrive within this time are cheaper together. Whoever has so much to decode keeps its clients
#: waiting for longer anyway. With 32 and 64 clients on two cores 8 ms cost 3 and 5 % more CPU an image; with 30 ms the
#: cores had nothing to do at times.
_LONGEST_GATHERING_S = 0.016

#: As few as these, for which somebody waited, would be a batch of their own, and those that are being decoded another
#: one soon after: so they wait for half of the time that the others need. With 8 clients a sixth of all batches had one
#: image, and an image costs 4 % less CPU now. Where they wait for all of that time, cores have nothing to do at times.
_FEW = 2
_PART = 0.5


class Intake:
    """Fills the belt from one partition, until it stops."""

    def __init__(
        self,
        group: Group,
        holdings: Holdings,
        outlet: Outlet,
        pace: Pace,
        belt: Belt[Runner],
        runner: Runner,
        *,
        max_deliveries: int,
        claim_interval_s: float,
    ) -> None:
        self._group = group
        self._holdings = holdings
        self._outlet = outlet
        self._pace = pace
        self._max_deliveries = max_deliveries
        self._claim_interval_s = claim_interval_s
        self._belt = belt
        self._runner = runner

    async def run(self) -> None:
        """Read and claim until the belt stops."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_new())
            tasks.create_task(self._claim_stale())

    async def _read_new(self) -> None:
        backoff = Backoff()
        while not self._belt.stopping.is_set():
            try:
                await self._read_batch()
                backoff.reset()
            except RedisError as error:
                _log(error, backoff)
                await self._recover(backoff)

    async def _read_batch(self) -> None:
        """Fill one slot. Who is not alone with the slots keeps none while it waits for entries, but one entry."""
        alone = self._belt.lanes == 1
        pause_s = await self._fill([], wait=alone)
        if pause_s is None and not alone and (first := self._holdings.take(await self._group.read(1, wait=True))):
            pause_s = await self._fill(first, wait=False)
        if pause_s:
            await asyncio.sleep(pause_s)

    async def _fill(self, first: list[Delivery], *, wait: bool) -> float | None:
        """Queue these, which are held, and as many more as there are.

        Returns for how long to let entries gather before the next read, in seconds; None where there was nothing.
        """
        slot = await self._belt.slots.get()
        rows = _rows(slot)[len(first) : self._pace.batch_size]
        read: list[Delivery] = []
        try:
            newest = await self._read_into(rows, read, wait=wait)
            few = len(read) <= min(_FEW, len(rows) - 1)
            if wait and few and (pause_s := gathering_s(newest) * _PART):
                await asyncio.sleep(pause_s)
                newest = await self._read_into(rows, read, wait=False)
        finally:
            found = first + self._holdings.take(read)
            if not self._submit(slot, found):
                self._belt.slots.put_nowait(slot)
        if not found:
            return None
        return gathering_s(newest) if len(read) < len(rows) else 0.0

    async def _read_into(self, rows: list[memoryview], read: list[Delivery], *, wait: bool) -> list[Delivery]:
        """Add what there is to what was read before, as far as there are rows; returns it."""
        if len(read) == len(rows):
            return []
        newest = await self._group.read(len(rows) - len(read), rows[len(read) :], wait=wait)
        read += newest
        return newest

    async def _recover(self, backoff: Backoff) -> None:
        """After a failed read: the group may be gone, and a lost reply leaves entries in our own pending list.

        Tried until it succeeds: nobody else can take these entries before their lease ends.
        """
        while not self._belt.stopping.is_set():
            await backoff.pause()
            try:
                await self._group.create()
                await self._reread_own()
                return
            except RedisError as error:
                _log(error, backoff)

    async def _reread_own(self) -> None:
        after = "0"
        while found := await self._group.read_own(self._pace.batch_size, after):
            after = found[-1].entry_id
            for delivery in found:
                await self._submit_alone(delivery)

    async def _claim_stale(self) -> None:
        while not self._belt.stopping.is_set():
            try:
                while not self._belt.stopping.is_set() and (delivery := await self._group.claim()):
                    await self._take_over(delivery)
            except RedisError as error:
                # The reading loop meets the same error, and mends what can be mended.
                logger.debug("cannot claim: %s", error)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._claim_interval_s):
                await self._belt.stopping.wait()
        except TimeoutError:
            return

    async def _take_over(self, delivery: Delivery) -> None:
        if delivery.entry_id in self._holdings.held:
            return  # It was ours all along: a pause of this whole process let its lease lapse.
        self._holdings.counts.reclaimed += 1
        logger.info(
            "claimed entry=%s request=%s deliveries=%d holders=%s",
            delivery.entry_id, request_of(delivery), delivery.deliveries, ",".join(delivery.holders),
        )  # fmt: skip
        if delivery.deliveries > self._max_deliveries:
            self._bury(delivery)
        else:
            await self._submit_alone(delivery)

    async def _submit_alone(self, delivery: Delivery) -> None:
        """Queue a redelivered entry as a batch of its own, and wait until it is completed.

        Whatever made its consumer die can then take nobody with it, and only one such entry is held at a time.
        """
        # Held before there is a slot: among many lanes that may take longer than a lease, which is renewed meanwhile.
        if held := self._holdings.take([delivery]):
            slot = await self._belt.slots.get()
            if not self._submit(slot, held):
                self._belt.slots.put_nowait(slot)
        await self._outlet.completed(delivery.entry_id)

    def _submit(self, slot: Slot, deliveries: list[Delivery]) -> bool:
        """Queue what can be run of what is held; whether anything could."""
        size = slot[0].size
        runnable = []
        for delivery in deliveries:
            if isinstance(delivery.entry, MalformedEntry):
                self._refuse_malformed(delivery, delivery.entry)
            elif len(delivery.entry.pixels) != size or delivery.entry.height != slot.shape[1]:
                self._refuse_size(delivery, slot)
            else:
                runnable.append(delivery)
        if runnable:
            self._belt.batches.put_nowait((self._runner, Batch.fill(slot, runnable)))
        return bool(runnable)

    def _refuse_malformed(self, delivery: Delivery, error: MalformedEntry) -> None:
        logger.error("malformed entry=%s: %s", delivery.entry_id, error)
        outcome = Failed(id=f"malformed-{delivery.entry_id}", reason="malformed", detail=str(error))
        self._outlet.put(Completed(delivery.entry_id, outcome, "", burial=f"malformed: {error}"))

    def _refuse_size(self, delivery: Delivery, slot: Slot) -> None:
        entry = entry_of(delivery)
        detail = (
            f"the image was prepared as {entry.height} x {entry.width}, this model version takes "
            f"{slot.shape[1]} x {slot.shape[2]}; send it again"
        )
        self._outlet.put(Completed(delivery.entry_id, Failed(entry.id, "wrong_size", detail), entry.reply))

    def _bury(self, delivery: Delivery) -> None:
        self._holdings.take([delivery])
        self._holdings.counts.dead += 1
        reason = f"given up after {delivery.deliveries - 1} deliveries: each consumer that held it died or hung"
        logger.error(
            "dead letter entry=%s request=%s holders=%s: %s",
            delivery.entry_id, request_of(delivery), ",".join(delivery.holders), reason,
        )  # fmt: skip
        if isinstance(delivery.entry, MalformedEntry):
            self._refuse_malformed(delivery, delivery.entry)
            return
        outcome = Failed(delivery.entry.id, "dead", f"The image was {reason}. It is kept as a dead letter.")
        self._outlet.put(Completed(delivery.entry_id, outcome, delivery.entry.reply, reason, delivery.deliveries - 1))


def gathering_s(found: list[Delivery]) -> float:
    """How long to let entries gather before the next read, in seconds: until each ingest that these are from has
    decoded what it had, by its own word."""
    longest_ms = max((one.entry.more_ms for one in found if isinstance(one.entry, Entry)), default=0)
    return min(max(0, longest_ms) / 1000, _LONGEST_GATHERING_S)


def _rows(slot: Slot) -> list[memoryview]:
    """Each image's place in a slot, as bytes."""
    return [row.data for row in slot.reshape(len(slot), -1)]


def _log(error: RedisError, backoff: Backoff) -> None:
    expected = passes_by_itself(error) or (isinstance(error, ResponseError) and str(error).startswith("NOGROUP"))
    logger.log(backoff.log_level if expected else logging.ERROR, "cannot read: %s", error)
