"""The worker: one consumer of all partitions of a model. A lane for each, and their batches run in turns."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from redis.exceptions import RedisError

from consumers.batch_size import Pace
from consumers.buffer_pool import Belt
from consumers.health import Health
from consumers.in_flight import Activity
from consumers.inference import Ran, Runner
from consumers.leases import SizeConflict
from consumers.metrics import REDIS, Figures
from consumers.onnx.model import Model
from consumers.partition import Lane
from consumers.turns import Turns
from stream.connection.clients import Connections
from stream.keys import Partition
from stream.presence import partition_counts
from stream.settings import Settings

logger = logging.getLogger(__name__)

#: One batch runs while the next is being filled.
_SLOTS = 2


class Worker:
    """A consumer. `run` serves until `stop`, and returns when nothing is held any more."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        health: Health,
        *,
        name: str,
        traces: Ran | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._health = health
        self._traces = traces
        self._connections = Connections(settings, REDIS)
        self._activity = Activity()
        self._pace = Pace(max_batch=settings.max_batch, max_batch_s=settings.max_batch_s)
        self._pace.note(1, model.image_s)
        self._belt: Belt[Runner] = Belt(model.slot() for _ in range(_SLOTS))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._turns = Turns(self._belt, model, self._thread, unload_after_s=settings.unload_after_s)
        self._lanes: list[Lane] = []
        self._conflict: SizeConflict | None = None
        self._filling: list[asyncio.Task[None]] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._delivering: list[asyncio.Task[None]] = []
        self.name = name
        self._widen(settings.partitions)
        self.figures = Figures(self._activity, self._held, self._pace, model.description, provider=model.provider)

    def stop(self) -> None:
        """Take nothing more; finish what is held."""
        self._belt.stopping.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises TimeoutError where what is held is not finished within the grace, and SizeConflict where a partition
        cannot be joined; if others could before, what they gave is finished first.
        """
        await self._join()
        pipeline = asyncio.create_task(self._pipeline())
        stopping = asyncio.create_task(self._belt.stopping.wait())
        await asyncio.wait({pipeline, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        async with asyncio.timeout(self._settings.shutdown_grace_s):
            await pipeline
            await asyncio.gather(*(lane.leave() for lane in self._lanes))
            await self._connections.aclose()
        if self._conflict:
            raise self._conflict

    async def _join(self) -> None:
        """Ready is who has joined anywhere: where a partition is away, the others have work."""
        joining = [asyncio.create_task(lane.join()) for lane in self._lanes]
        done, waiting = await asyncio.wait(joining, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        for one in done:
            one.result()
        if not self._belt.stopping.is_set():
            logger.info("ready consumer=%s", self.name)

    async def _pipeline(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(tasks))
            turns = tasks.create_task(self._turns.run())
            for lane in self._lanes:
                self._start(lane, tasks)
            await self._belt.stopping.wait()
            following.cancel()
            await asyncio.wait(self._filling)
            self._belt.end()
            await turns
            for lane in self._lanes:
                lane.close()
            await asyncio.wait(self._delivering)
            for keeping in self._keeping:
                keeping.cancel()

    def _start(self, lane: Lane, tasks: asyncio.TaskGroup) -> None:
        self._filling.append(tasks.create_task(self._fill(lane)))
        self._keeping.append(tasks.create_task(lane.keep()))
        self._delivering.append(tasks.create_task(lane.deliver()))

    async def _fill(self, lane: Lane) -> None:
        try:
            await lane.fill()
        except SizeConflict as conflict:
            self._conflict = conflict
            self.stop()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Serve partitions that are added while this runs, by whoever: an ingest that sends to more."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                counts = await partition_counts(self._connections.shared)
            except RedisError as error:
                logger.debug("cannot look for partitions: %s", error)
                continue
            for lane in self._widen(counts.get(self._model.description.name, 1)):
                self._start(lane, tasks)

    def _held(self) -> int:
        return sum(len(lane.holdings.held) for lane in self._lanes)

    def _widen(self, count: int) -> list[Lane]:
        """Have a lane for each of so many partitions; returns the new ones."""
        new = [self._lane(number) for number in range(len(self._lanes), count)]
        self._lanes += new
        self._belt.lanes = len(self._lanes)
        return new

    def _lane(self, number: int) -> Lane:
        return Lane(
            Partition(self._model.description.name, number),
            self._connections,
            self._model,
            self._settings,
            self._belt,
            self._activity,
            self._pace,
            self._health,
            self._thread,
            name=self.name,
            traces=self._traces,
        )
