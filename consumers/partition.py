"""One partition, as this consumer serves it: fetcher, inference runner and completer, with the lease keeper beside."""

import asyncio
import logging
from contextlib import suppress

from redis.exceptions import RedisError

from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.fetcher import Fetcher
from consumers.in_flight import InFlight
from consumers.inference import InferenceRunner
from consumers.leases import LeaseKeeper
from consumers.metrics import REDIS
from results.completion import Completion
from results.store import Store
from stream import server_check
from stream.connection.clients import AT_START, Backoff
from stream.connection.group_reader import Reader
from stream.group import Group
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import Presence

logger = logging.getLogger(__name__)


class PartitionWorker:
    """Fetches, runs and completes the entries of one partition. All partitions share the context."""

    def __init__(self, context: WorkerContext, partition: Partition) -> None:
        settings, shared = context.settings, context.connections.shared
        redis = context.connections.client_for(partition)
        self._context = context
        self._redis = redis
        # All partitions have one client where they have one server.
        self._is_first_on_server = partition.number == 0 or redis is not shared
        self._joined = asyncio.Event()
        self._reader = Reader(settings, REDIS, partition)
        self._presence = Presence(redis, partition, shared)
        self.in_flight = InFlight(context.state, partition.number)
        self._group = Group(
            redis,
            self._reader,
            partition,
            consumer=context.name,
            lease_s=settings.lease_s,
            version=context.served.description.version,
        )
        completion = Completion(
            redis,
            partition,
            consumer=context.name,
            result_ttl_s=settings.result_ttl_s,
            max_dead_letters=settings.max_dead_letters,
        )
        self.completer = Completer(completion, self.in_flight)
        self.inference = InferenceRunner(context, Store(redis, partition), self.in_flight, self.completer)
        self._fetcher = Fetcher(context, self._group, self.in_flight, self.completer)
        self._leases = LeaseKeeper(context, self._group, self._presence, self.in_flight)

    async def join(self) -> None:
        """Announce the model and send a heartbeat; tried until it succeeds, or the consumer stops."""
        backoff = Backoff(quiet=AT_START)
        while not self._joined.is_set() and not self._context.state.stopping.is_set():
            try:
                await self._leases.join()
                if self._is_first_on_server:
                    await self._check_server()
                self._joined.set()
            except RedisError as error:
                await backoff.wait_for_redis(error)

    async def _check_server(self) -> None:
        """Log what is wrong with the server; raises ServerRefused if it is too old to work with."""
        facts = await server_check.read_facts(self._redis)
        server_check.refuse_fatal(facts)
        durability = self._context.settings.durability
        for problem in [*server_check.problems(facts, durability), *server_check.doubts(facts, durability)]:
            logger.warning("%s", problem)

    async def fetch(self) -> None:
        """Queue batches for the model until the consumer stops, and what nobody else can run, before it leaves."""
        await self.join()
        await self._fetcher.run()
        with suppress(RedisError):  # Ingests then see that it is gone, somewhat later.
            await self.heartbeat()
            if not self._context.state.failure and await self._leases.is_last_to_run():
                await self._fetcher.drain()

    async def announce(self, model: ModelDescription) -> None:
        """Publish a description before any outcome names its version."""
        await self._presence.announce(model)

    async def heartbeat(self) -> None:
        """Report at once what has changed; raises redis-py's errors."""
        if self._joined.is_set():
            await self._leases.heartbeat()

    async def renew(self) -> None:
        """Renew leases and send heartbeats once it has joined, until cancelled."""
        await self._joined.wait()
        await self._leases.run()

    async def hand_back(self) -> None:
        """Let other consumers claim at once what this one could not finish."""
        held, suspects = self.in_flight.held, self.in_flight.suspects
        try:
            returned = await self._group.hand_back(counted=held & suspects, uncounted=held - suspects)
            logger.info("handed back %d entries", returned)
        except RedisError as error:
            logger.warning("cannot hand back %d entries, their leases will expire: %s", len(held), error)

    async def leave(self) -> None:
        """Take the consumer off the list of living ones and close its connection."""
        try:
            held = await self._presence.leave(self._context.name, self._group.joined.values())
            logger.info("left the group consumer=%s held=%d", self._context.name, held)
        except RedisError as error:
            logger.warning("cannot leave the group: %s", error)
        await self._reader.aclose()
