"""The worker: one consumer of one partition, wired together. Intake → runner → outlet, with the keeper beside."""

import asyncio
import logging

from redis.exceptions import RedisError

from consumers.health import Health
from consumers.holdings import Holdings
from consumers.intake import Intake
from consumers.keeper import Keeper
from consumers.metrics import REDIS, Figures
from consumers.model import Model
from consumers.outlet import Outlet
from consumers.pace import Pace
from consumers.runner import Ran, Runner
from consumers.seats import Seat
from results.completion import Completion
from results.store import Store
from stream.connection import Backoff, Connections, passes_by_itself
from stream.group import Group
from stream.keys import Partition
from stream.presence import Presence
from stream.reader import Reader
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
        seat: Seat | None = None,
        traces: Ran | None = None,
    ) -> None:
        self._settings = settings
        partition = Partition(model.description.name)
        self._connections = Connections(settings, REDIS)
        redis = self._connections.of(partition)
        self._reader = Reader(settings, REDIS, partition)
        self.name = name
        self._holdings = Holdings()
        self._pace = Pace(max_batch=settings.max_batch, max_batch_seconds=settings.max_batch_seconds)
        self._pace.note(1, model.image_s)
        self.figures = Figures(self._holdings, self._pace, model.description, provider=model.provider)
        self._presence = Presence(redis, partition, self._connections.shared)
        group = Group(redis, self._reader, partition, consumer=self.name, lease_s=settings.lease_s)
        completion = Completion(
            redis,
            partition,
            consumer=self.name,
            result_ttl_s=settings.result_ttl_s,
            max_dead_letters=settings.max_dead_letters,
        )
        self._outlet = Outlet(completion, self._holdings)
        self._intake = Intake(
            group,
            self._holdings,
            self._outlet,
            self._pace,
            slots=[model.slot() for _ in range(_SLOTS)],
            max_deliveries=settings.max_deliveries,
            claim_interval_s=min(settings.lease_s / 4, 0.5),
        )
        store = Store(redis, partition)
        self._runner = Runner(
            model,
            self._intake,
            self._outlet,
            store,
            self._holdings,
            self._pace,
            unload_after_s=settings.unload_after_s,
            traces=traces,
        )
        self._keeper = Keeper(
            group,
            self._presence,
            model,
            self._holdings,
            self._pace,
            health,
            lease_s=settings.lease_s,
            run_timeout_s=settings.run_timeout_s,
            seat=seat,
        )

    def stop(self) -> None:
        """Take nothing more; finish what is held."""
        self._intake.stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises TimeoutError where what is held is not finished within the grace."""
        await self._join()
        pipeline = asyncio.create_task(self._pipeline())
        stopping = asyncio.create_task(self._intake.stopping.wait())
        await asyncio.wait({pipeline, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        async with asyncio.timeout(self._settings.grace_s):
            await pipeline
            await self._leave()

    async def _pipeline(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self._keeper.run())
            tasks.create_task(self._intake.run())
            tasks.create_task(self._runner.run())
            await self._outlet.run()
            keeper.cancel()

    async def _join(self) -> None:
        backoff = Backoff()
        while not self._intake.stopping.is_set():
            try:
                await self._keeper.join()
                logger.info("ready consumer=%s", self.name)
                return
            except RedisError as error:
                if not passes_by_itself(error):
                    raise
                logger.log(backoff.log_level, "waiting for Redis: %s", error)
                await backoff.pause()

    async def _leave(self) -> None:
        try:
            held = await self._presence.leave(self.name)
            logger.info("left consumer=%s held=%d", self.name, held)
        except RedisError as error:
            logger.warning("left without saying goodbye: %s", error)
        await self._connections.aclose()
        await self._reader.aclose()
