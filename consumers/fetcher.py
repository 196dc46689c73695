"""Reads new entries in batches. Entries that another consumer has handed back, and had not run, are part of the next.

Those that a dead consumer held run alone: see consumers/quarantine.py.

A free buffer is taken before reading, so that at most one batch waits while another runs.
"""

import asyncio
import logging
import time
from contextlib import suppress

import numpy as np
from redis.exceptions import RedisError

from consumers.batch import Batch, Buffer, is_prepared_for
from consumers.batch_reader import BatchReader
from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.in_flight import InFlight
from consumers.quarantine import Quarantine
from stream.connection.clients import Backoff, is_temporary
from stream.entry import Entry
from stream.group import Delivery, Group

logger = logging.getLogger(__name__)

#: A read, a run and a completion take about a millisecond of CPU, whatever they carry, so images that arrive within
#: this time are cheaper together. Without this delay an image costs 8 % more CPU with 8 clients, and 15 % more with 32
#: (two cores, a network that takes next to no time). With 30 ms the cores were idle at times.
_LONGEST_DELAY_S = 0.016

#: A read right after another competes with the model's thread for the interpreter. Without this delay, a client that
#: sends one image at a time waits 0.4 of 5 ms longer.
_SHORTEST_DELAY_S = 0.001

#: Longest pause between two looks for entries of dead consumers and for those handed back, in seconds.
_LONGEST_CLAIM_PAUSE_S = 0.25

#: The least time between the report that a consumer is leaving and its last read, in seconds: ingests look for
#: consumers every second.
_LEAVE_S = 3.0


class Fetcher:
    """Queues batches from one partition, until the worker stops."""

    def __init__(self, context: WorkerContext, group: Group, in_flight: InFlight, completer: Completer) -> None:
        self._group = group
        self._in_flight = in_flight
        self._completer = completer
        self._sizer = context.sizer
        self._buffers = context.buffers
        self._state = context.state
        self._reader = BatchReader(group, in_flight, context.sizer, bulk_share=context.settings.bulk_share)
        self._served = context.served
        self._quarantine = Quarantine(context, group, in_flight, completer, self._queue)
        self._leave_s = min(_LEAVE_S, context.settings.shutdown_grace_s / 2)
        self._claim_pause_s = min(context.settings.lease_s / 4, _LONGEST_CLAIM_PAUSE_S)

    async def run(self) -> None:
        """Read and claim until the worker stops."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_new())
            tasks.create_task(self._claim_stale())

    async def drain(self) -> None:
        """Read what no other consumer can run, once this one has reported that it is leaving.

        Until ingests know that, too, they send more.
        """
        end_s = time.monotonic() + self._leave_s
        with suppress(RedisError):  # What stays behind is refused by others, and prepared again.
            while await self._read_batch() or time.monotonic() < end_s:
                pass
        await self._queue_kept()

    async def _read_new(self) -> None:
        backoff: Backoff | None = None
        while not self._state.stopping.is_set():
            try:
                await self._read_batch()
                backoff = None
            except RedisError as error:
                backoff = backoff or Backoff()
                _log(error, backoff)
                await self._recover(backoff)
        await self._queue_kept()

    async def _queue_kept(self) -> None:
        self._reader.waits = True
        while self._reader.keeps:
            buffer = await self._buffers.free.get()
            self._queue(buffer, self._reader.take(self._batch_size))

    async def _read_batch(self) -> bool:
        """Fill one buffer; False if there was nothing.

        If several partitions share the buffers, none keeps one while it waits for entries.
        """
        alone = self._state.partitions == 1
        pause_s = await self._fill(wait=alone)
        if pause_s is None and not alone:
            await self._reader.wait()
            if self._reader.keeps:
                pause_s = await self._fill(wait=False)
        if pause_s:
            await asyncio.sleep(pause_s)
        return pause_s is not None

    async def _fill(self, *, wait: bool) -> float | None:
        """Queue a batch of as many entries as there are.

        Returns how long to let entries arrive before the next read, in seconds; None if there was nothing to queue.
        """
        if self._reader.late:
            await self._buffers.idle()
        buffer = await self._buffers.free.get()
        rows = _rows(buffer)[: self._batch_size]
        found: list[Delivery] = []
        try:
            found = await self._reader.read(rows, wait=wait)
        finally:
            self._queue(buffer, found)
        if not found:
            return None
        await self._reader.read_ahead()
        return 0.0 if self._reader.keeps or len(found) == len(rows) else batching_delay_s(found)

    @property
    def _batch_size(self) -> int:
        """Partitions take turns: if each batch waits for those of the others, all are shorter."""
        whole = self._sizer.batch_size
        return max(1, whole // self._state.partitions) if self._reader.late else whole

    def _queue(self, buffer: Buffer, deliveries: list[Delivery]) -> None:
        """Queue those deliveries that can be run, and refuse the others."""
        about = self._served.description
        runnable = []
        for delivery in deliveries:
            if is_prepared_for(about, delivery):
                runnable.append(delivery)
            else:
                self._completer.refuse(delivery, about)
        if runnable:
            buffer = self._buffers.fitting(buffer)  # Another version may have come while we waited for entries.
            self._buffers.batches.put_nowait(Batch.fill(buffer, runnable, partition=self._in_flight.partition))
        else:
            self._buffers.put_back(buffer)

    async def _recover(self, backoff: Backoff) -> None:
        """After a failed read: the group may be gone, and a lost reply leaves entries in our own pending list.

        Tried until it succeeds: no other consumer can claim these entries before their lease ends.
        """
        while not self._state.stopping.is_set():
            await backoff.pause()
            try:
                if await self._group.create():
                    logger.warning("Redis has lost its data: the groups are made again, but releases may be gone")
                await self._reread_own()
                return
            except RedisError as error:
                _log(error, backoff)

    async def _reread_own(self) -> None:
        for stream in self._group.streams:
            after = f"{stream.prefix}0"
            while found := await self._group.read_pending(self._sizer.batch_size, after):
                after = found[-1].entry_id
                for delivery in found:
                    # Others are in a batch already, or kept for the next one.
                    if delivery.entry_id not in self._in_flight.held:
                        await self._quarantine.run_alone(delivery)

    async def _claim_stale(self) -> None:
        while not self._state.stopping.is_set():
            try:
                while not self._state.stopping.is_set() and await self._take_over():
                    pass
            except RedisError as error:
                # The reading loop meets the same error, and recovers from it.
                logger.debug("cannot claim: %s", error)
            await self._pause()

    async def _take_over(self) -> bool:
        """Take over what others held, and wait until it is completed; False if there is nothing."""
        return await self._take_back() or await self._quarantine.claim_next()

    async def _take_back(self) -> bool:
        """Queue entries that were handed back, and wait until they are completed; False if there are none."""
        if not (returned := await self._group.take_back(self._sizer.batch_size)):
            return False
        logger.info("took over %d entries that were handed back", len(returned))
        held = self._in_flight.add(returned)
        if self._reader.waits:
            buffer = await self._buffers.free.get()
            self._queue(buffer, held)
        else:
            self._reader.keep_first(held)
        for delivery in held:
            await self._completer.completed(delivery.entry_id)
        return True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._claim_pause_s):
                await self._state.stopping.wait()
        except TimeoutError:
            return


def batching_delay_s(found: list[Delivery]) -> float:
    """How long to let entries arrive before the next read, in seconds.

    Until the ingest processes that sent these deliveries have decoded the images that they still had, by their own
    estimates.
    """
    longest_ms = max((delivery.entry.more_ms for delivery in found if isinstance(delivery.entry, Entry)), default=0)
    return min(max(_SHORTEST_DELAY_S, longest_ms / 1000), _LONGEST_DELAY_S)


def _rows(buffer: Buffer) -> list[memoryview]:
    """Each image's row of a buffer, as bytes. Nothing is read into rows of float32, which are longer than pixels."""
    return [row.data for row in buffer.reshape(len(buffer), -1).view(np.uint8)]


def _log(error: RedisError, backoff: Backoff) -> None:
    logger.log(backoff.next_log_level(error) if is_temporary(error) else logging.ERROR, "cannot read: %s", error)
