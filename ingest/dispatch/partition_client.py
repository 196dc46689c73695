"""A route: the way to the consumers of one partition and back. Knows no other partition."""

import asyncio
import logging
import math
from contextlib import suppress

from redis.exceptions import RedisError

from ingest import metrics
from ingest.dispatch.entrance import Entrance
from ingest.errors import StreamUnavailable
from results.outcome import Outcome
from results.replies import Replies
from results.store import Store
from stream.connection.clients import Connections, connect_reader
from stream.entry import Entry
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import ConsumerReport, Presence
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)


class Route:
    """One partition, as this ingest sees it; `away` says why it cannot be reached, empty while it can."""

    def __init__(self, connections: Connections, settings: IngestSettings, partition: Partition, *, ingest: str) -> None:
        redis = connections.client_for(partition)
        self._timeout_s = settings.redis_timeout_s
        # The only partition is away when Redis is, and that is told once for all.
        self._log_level = logging.WARNING if settings.partitions > 1 else logging.DEBUG
        self._reader = connect_reader(settings, metrics.REDIS, partition)
        self.store = Store(redis, partition)
        self._replies = Replies(self._reader, self.store, partition, ingest=ingest)
        self._presence = Presence(redis, partition)
        self._entrance = Entrance(redis, self.store, settings, partition)
        self.number = partition.number
        self.consumers: list[ConsumerReport] = []
        self.away = ""

    async def run(self) -> None:
        """Receive replies until cancelled."""
        try:
            await self._replies.run()
        finally:
            await self._reader.aclose()

    async def refresh(self) -> RedisError | TimeoutError | None:
        """Learn who is alive; the error where the partition cannot be reached."""
        try:
            async with asyncio.timeout(self._timeout_s):
                reports = await self._presence.consumers()
        except (RedisError, TimeoutError) as error:
            self._lose(f"Redis does not answer ({type(error).__name__})")
            return error
        if self.away:
            logger.info("partition %d is back", self.number)
        self.away = ""
        self.consumers = [one for one in reports if one.alive]
        self._entrance.set_rate(math.fsum(one.images_per_s for one in self.consumers))
        return None

    def _lose(self, why: str) -> None:
        if not self.away:
            logger.log(self._log_level, "partition %d is away: %s", self.number, why)
        self.away = why

    async def versions(self) -> dict[str, ModelDescription]:
        """All versions ever announced here; raises redis-py's errors."""
        return await self._presence.versions()

    def refuse_if_full(self) -> None:
        """Raise Overloaded where an image would be refused, before anybody decodes it."""
        self._entrance.refuse_if_full()

    def expect(self, request_id: str) -> asyncio.Future[Outcome]:
        """A future for the outcome; to be made before the request is admitted, and cancelled in the end."""
        return self._replies.expect(request_id)

    async def admit(self, entry: Entry) -> None:
        """Let one image in; raises Overloaded, NoConsumer or StreamUnavailable."""
        try:
            await self._entrance.admit(entry)
        except StreamUnavailable as problem:
            # Until the next look nobody else need wait to learn it.
            self._lose(problem.detail)
            raise

    async def send(self, entry: Entry) -> asyncio.Future[Outcome]:
        """Admit an image whose outcome is waited for; cancelling this cancels the work."""
        reply = self.expect(entry.id)
        try:
            await self.admit(entry)
        except BaseException as error:
            reply.cancel()
            if isinstance(error, asyncio.CancelledError):
                await self.drop(entry.id)
            raise
        return reply

    async def drop(self, request_id: str) -> None:
        """Cancel what nobody waits for any more, as far as Redis can be told."""
        with suppress(RedisError):
            await asyncio.shield(self.store.cancel(request_id))
