"""The worker: one consumer of all partitions of a model. Partitions fetch side by side; their batches run in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from contextvars import Context

from redis.exceptions import RedisError

from consumers.batch import Batch, BufferPool
from consumers.batch_size import BatchSizer
from consumers.context import BatchTracer, WorkerContext
from consumers.health import Health
from consumers.in_flight import WorkerState
from consumers.leases import VersionConflict
from consumers.metrics import REDIS, ConsumerCollector
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import ServedModel
from consumers.partition import PartitionWorker
from consumers.reload import ModelReloader
from stream.connection.clients import Connections
from stream.host.logs import partition_context, set_partition
from stream.keys import Partition
from stream.presence import partition_counts
from stream.settings import ConsumerSettings

logger = logging.getLogger(__name__)


class ConsumerFailed(Exception):
    """The model cannot be used any more; the consumer has handed its entries back."""


#: One batch runs while the next is being filled.
BUFFERS = 2


#: A batch that runs so many times as long as any should may be stuck because of one of its images.
_HANGS = 2


class Worker:
    """A consumer. `run` serves until `stop`, and returns when nothing is in flight any more.

    It changes to other versions that `loader` finds, if there is one. `run` ends the model's thread.
    """

    def __init__(
        self,
        served: ServedModel,
        settings: ConsumerSettings,
        health: Health,
        *,
        name: str,
        loader: ModelLoader | None = None,
        tracer: BatchTracer | None = None,
    ) -> None:
        sizer = BatchSizer(max_batch=settings.max_batch, max_batch_s=settings.max_batch_s)
        sizer.restart(served.model.image_s)
        self._context = WorkerContext(
            name=name,
            settings=settings,
            connections=Connections(settings, REDIS),
            served=served,
            buffers=BufferPool(served.model.new_buffer, BUFFERS),
            sizer=sizer,
            state=WorkerState(),
            health=health,
            tracer=tracer,
        )
        self._partitions: list[PartitionWorker] = []
        self._conflict: VersionConflict | None = None
        self._fetching: list[asyncio.Task[None]] = []
        self._renewing: list[asyncio.Task[None]] = []
        self._completing: list[asyncio.Task[None]] = []
        self._add_partitions(settings.partitions)
        self._reloader = ModelReloader(self._context, loader, self._partitions) if loader else None
        self.collector = ConsumerCollector(
            self._context.state, self._held, sizer, lambda: (served.description, served.model.provider.ort_name)
        )

    @property
    def is_loading(self) -> bool:
        """Whether another version is being loaded, which nothing can interrupt."""
        return self._reloader is not None and self._reloader.is_loading

    def stop(self) -> None:
        """Fetch nothing more; finish what is in flight."""
        self._context.state.stop()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises TimeoutError if the entries in flight are not finished within `shutdown_grace_s`, VersionConflict if a
        partition cannot be joined (entries of other partitions are finished first), and ConsumerFailed if the model
        fails for good.
        """
        await self._join()
        stopping = asyncio.create_task(self._context.state.stopping.wait())
        pipeline = asyncio.create_task(self._run_pipeline())
        await asyncio.wait({pipeline, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        try:
            async with asyncio.timeout(self._context.settings.shutdown_grace_s):
                await pipeline
                if self._context.state.failure:
                    await asyncio.gather(*self._tasks(PartitionWorker.hand_back))
                await asyncio.gather(*self._tasks(PartitionWorker.leave))
                await self._context.connections.aclose()
        except TimeoutError:
            await self._hand_back_unfinished()
            raise
        if self._context.state.failure:
            raise ConsumerFailed(self._context.state.failure)
        if self._conflict:
            raise self._conflict

    def _tasks(self, do: Callable[[PartitionWorker], Coroutine[None, None, None]]) -> list[asyncio.Task[None]]:
        """A task for each partition."""
        return [asyncio.create_task(do(one), context=self._log_context(one)) for one in self._partitions]

    def _log_context(self, partition: PartitionWorker) -> Context:
        return partition_context(partition.in_flight.partition)

    async def _hand_back_unfinished(self) -> None:
        """Let others have at once what was not finished within the grace."""
        hangs = self._context.state.run_lasts_s() > _HANGS * max(
            self._context.settings.max_batch_s, self._context.sizer.image_s
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(self._context.settings.redis_timeout_s):
                for partition in self._partitions if hangs else ():
                    partition.in_flight.suspects.update(partition.in_flight.running)
                await asyncio.gather(*self._tasks(PartitionWorker.hand_back))

    async def _join(self) -> None:
        """A consumer is ready once it has joined any partition: while one is unavailable, others have work."""
        joining = self._tasks(PartitionWorker.join)
        done, waiting = await asyncio.wait(joining, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()
        if not self._context.state.stopping.is_set():
            logger.info("ready consumer=%s", self._context.name)

    async def _run_pipeline(self) -> None:
        """Fetch, run and complete. At the end each stage finishes what the stage before it has left."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch_partition_count(tasks))
            reloading = tasks.create_task(self._reloader.run()) if self._reloader else None
            running = tasks.create_task(self._run_batches())
            for partition in self._partitions:
                self._start(partition, tasks)
            await self._context.state.stopping.wait()
            watching.cancel()
            if reloading:
                reloading.cancel()
            await asyncio.wait(self._fetching)
            self._context.buffers.end()
            await running
            for partition in self._partitions:
                partition.completer.close()
            await asyncio.wait(self._completing)
            for renewing in self._renewing:
                renewing.cancel()

    def _start(self, partition: PartitionWorker, tasks: asyncio.TaskGroup) -> None:
        context = self._log_context(partition)
        self._fetching.append(tasks.create_task(self._fetch(partition), context=context.copy()))
        self._renewing.append(tasks.create_task(partition.renew(), context=context.copy()))
        self._completing.append(tasks.create_task(partition.completer.run(), context=context.copy()))

    async def _fetch(self, partition: PartitionWorker) -> None:
        try:
            await partition.fetch()
        except VersionConflict as conflict:
            self._conflict = conflict
            self.stop()

    async def _run_batches(self) -> None:
        """Run the batches of all partitions, one at a time, in the order in which they were filled."""
        async for batch in self._filled_batches():
            if len(self._partitions) > 1:
                set_partition(batch.partition)
            async with self._context.served.one_batch():
                await self._partitions[batch.partition].inference.run(batch)
            self._context.buffers.put_back(batch.buffer)
        self._context.served.close()

    async def _filled_batches(self) -> AsyncIterator[Batch]:
        while (batch := await self._next_batch()) is not None:
            yield batch

    async def _next_batch(self) -> Batch | None:
        """The next batch. A model that is idle for longer than `unload_after_s` is unloaded meanwhile."""
        unload_after_s, batches = self._context.settings.unload_after_s, self._context.buffers.batches
        if unload_after_s and self._context.served.model.loaded:
            try:
                async with asyncio.timeout(unload_after_s):
                    return await batches.get()
            except TimeoutError:
                await self._context.served.call(self._context.served.model.unload)
        return await batches.get()

    async def _watch_partition_count(self, tasks: asyncio.TaskGroup) -> None:
        """Serve partitions that are added while this runs, by an ingest that sends to more of them."""
        while True:
            await asyncio.sleep(self._context.settings.lease_s / 4)
            try:
                counts = await partition_counts(self._context.connections.shared)
            except RedisError as error:
                logger.debug("cannot read the partition counts: %s", error)
                continue
            for partition in self._add_partitions(counts.get(self._context.served.description.name, 1)):
                self._start(partition, tasks)

    def _add_partitions(self, count: int) -> list[PartitionWorker]:
        """Have a worker for each of `count` partitions; returns the new ones."""
        name = self._context.served.description.name
        new = [
            PartitionWorker(self._context, Partition(name, number)) for number in range(len(self._partitions), count)
        ]
        self._partitions += new
        self._context.state.partitions = len(self._partitions)
        return new

    def _held(self) -> int:
        return sum(len(partition.in_flight.held) for partition in self._partitions)
