"""A lane: one partition, as this consumer serves it. Intake → runner → outlet, with the keeper beside."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from redis.asyncio import Redis
from redis.exceptions import RedisError

from consumers.batch_size import Pace
from consumers.buffer_pool import Belt
from consumers.completer import Outlet
from consumers.fetcher import Intake
from consumers.health import Health
from consumers.in_flight import Activity, Holdings
from consumers.inference import Ran, Runner
from consumers.leases import Keeper
from consumers.metrics import REDIS
from consumers.onnx.model import Model
from results.completion import Completion
from results.store import Store
from stream import eviction
from stream.connection.clients import Backoff, Connections, passes_by_itself
from stream.connection.group_reader import Reader
from stream.group import Group
from stream.keys import Partition
from stream.presence import Presence
from stream.settings import Settings

logger = logging.getLogger(__name__)


class Lane:
    """What a consumer has for each partition; all share the belt, the model and its thread."""

    def __init__(
        self,
        partition: Partition,
        connections: Connections,
        model: Model,
        settings: Settings,
        belt: Belt[Runner],
        activity: Activity,
        pace: Pace,
        health: Health,
        thread: ThreadPoolExecutor,
        *,
        name: str,
        traces: Ran | None = None,
    ) -> None:
        redis = connections.of(partition)
        self._redis = redis
        # All partitions have one client where they have one server.
        self._is_first_on_server = partition.number == 0 or redis is not connections.shared
        self._belt = belt
        self._name = name
        self._reader = Reader(settings, REDIS, partition)
        self._presence = Presence(redis, partition, connections.shared)
        self.number = partition.number
        self.holdings = Holdings(activity)
        self._joined = asyncio.Event()
        group = Group(redis, self._reader, partition, consumer=name, lease_s=settings.lease_s)
        completion = Completion(
            redis,
            partition,
            consumer=name,
            result_ttl_s=settings.result_ttl_s,
            max_dead_letters=settings.max_dead_letters,
        )
        self._outlet = Outlet(completion, self.holdings)
        runner = Runner(model, thread, self._outlet, Store(redis, partition), self.holdings, pace, traces=traces)
        self._intake = Intake(
            group,
            self.holdings,
            self._outlet,
            pace,
            belt,
            runner,
            max_deliveries=settings.max_deliveries,
            claim_interval_s=min(settings.lease_s / 4, 0.5),
        )
        self._keeper = Keeper(
            group,
            self._presence,
            model,
            self.holdings,
            pace,
            belt,
            health,
            lease_s=settings.lease_s,
            inference_timeout_s=settings.inference_timeout_s,
        )

    async def join(self) -> None:
        """Announce the model and beat once; tried until it succeeds, or the consumer stops."""
        backoff = Backoff()
        while not self._joined.is_set() and not self._belt.stopping.is_set():
            try:
                await self._keeper.join()
                if self._is_first_on_server:
                    await _warn_of_eviction(self._redis)
                self._joined.set()
            except RedisError as error:
                if not passes_by_itself(error):
                    raise
                logger.log(backoff.log_level, "waiting for Redis: %s", error)
                await backoff.pause()

    async def fill(self) -> None:
        """Put batches on the belt until the consumer stops."""
        await self.join()
        await self._intake.run()

    async def keep(self) -> None:
        """Renew and beat once it has joined, until cancelled."""
        await self._joined.wait()
        await self._keeper.run()

    async def deliver(self) -> None:
        """Complete what the runner hands over, until `close`."""
        await self._outlet.run()

    def close(self) -> None:
        """Nothing more will be run."""
        self._outlet.close()

    async def leave(self) -> None:
        """Say goodbye."""
        try:
            held = await self._presence.leave(self._name)
            logger.info("left consumer=%s held=%d", self._name, held)
        except RedisError as error:
            logger.warning("left without saying goodbye: %s", error)
        await self._reader.aclose()


async def _warn_of_eviction(redis: Redis) -> None:
    if policy := await eviction.policy(redis):
        logger.warning("Redis evicts keys when it is full, queued images with them: maxmemory-policy is %s", policy)
