"""The client of one partition: admits images into its stream and receives their outcomes."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from ingest import metrics, request_trace
from ingest.backpressure import BacklogLimit
from ingest.errors import RETRY_S, NoConsumer, Overloaded, StreamUnavailable, redis_errors_as_503
from results.dead_letters import DeadLetters
from results.outcome import Failed, Outcome
from results.replies import Replies
from results.store import Store
from stream.admission import Admission, NoLiveConsumer, NotReplicated, QueueFull
from stream.connection.clients import Connections, connect_reader
from stream.entry import Entry
from stream.keys import PRIORITIES, EntryStream, Partition, Priority
from stream.model import ModelDescription
from stream.presence import ConsumerReport, Presence
from stream.server_check import WritesRefused, refused_writes
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: The share of redis_timeout_s that replicas have to acknowledge an image.
_REPLICATION_SHARE: Final = 0.5

#: Seconds between two searches for dead letters that are too old. Each costs Redis some microseconds.
_EXPIRE_EVERY_S: Final = 60.0


class PartitionClient:
    """One partition as this ingest sees it. `unavailable_reason` is empty while the partition can be reached."""

    def __init__(
        self, connections: Connections, settings: IngestSettings, partition: Partition, *, ingest: str
    ) -> None:
        redis = connections.client_for(partition)
        self._settings = settings
        self._redis = redis
        self._partition = partition
        # The only partition is unavailable when Redis is, and the registry logs that.
        self._log_level = logging.WARNING if settings.partitions > 1 else logging.DEBUG
        self._reader = connect_reader(settings, metrics.REDIS, partition)
        self.store = Store(redis, partition)
        self._replies = Replies(self._reader, self.store, partition, ingest=ingest, result_ttl_s=settings.result_ttl_s)
        self._dead_letters = DeadLetters(redis, partition)
        self._presence = Presence(redis, partition)
        self._admission = Admission(
            redis,
            partition,
            result_ttl_s=settings.result_ttl_s,
            replicas=settings.wait_replicas,
            wait_s=settings.redis_timeout_s * _REPLICATION_SHARE,
            durability=settings.durability,
        )
        self._backlogs: dict[Priority, BacklogLimit] = {
            priority: BacklogLimit(
                max_backlog=math.ceil(settings.max_backlog / settings.partitions), max_wait_s=settings.max_wait_s
            )
            for priority in PRIORITIES
        }
        self._refusing = False
        self._expire_at_s = 0.0
        #: The version that a release tries. The stable version takes what its queue does not.
        self.candidate = ""
        self.number = partition.number
        self.consumers: list[ConsumerReport] = []
        #: The versions of consumers that are not older than this ingest.
        self._newer: set[str] = set()
        self._has_older = False
        self.unavailable_reason = ""

    async def run(self) -> None:
        """Receive replies until cancelled."""
        try:
            await self._replies.run()
        finally:
            await self._reader.aclose()

    async def refresh(self) -> RedisError | TimeoutError | None:
        """Read which consumers are alive. Returns the error if the partition cannot be reached."""
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                reports = await self._presence.consumers()
                alive = [one for one in reports if one.alive]
                # A server that refuses writes refuses heartbeats too: then it is not that no consumer runs.
                reason = "" if alive else await refused_writes(self._redis)
        except (RedisError, TimeoutError) as error:
            self._mark_unavailable(f"Redis does not answer ({type(error).__name__})")
            return error
        self.consumers = alive
        self._newer = {one.version for one in alive if not one.is_older}
        self._has_older = any(one.is_older for one in alive)
        if reason:
            self._mark_unavailable(reason)
            return WritesRefused(reason)
        if self.unavailable_reason:
            logger.info("partition %d is available again", self.number)
        self.unavailable_reason = ""
        self._backlogs["interactive"].set_rate(math.fsum(one.images_per_s for one in self.consumers))
        self._backlogs["bulk"].set_rate(math.fsum(one.bulk_rate for one in self.consumers))
        await self._expire_dead_letters()
        return None

    async def _expire_dead_letters(self) -> None:
        """Drop what is too old, now and then, whether or not consumers run."""
        age_s, now_s = self._settings.max_dead_letter_age_s, time.monotonic()
        if not age_s or now_s < self._expire_at_s:
            return
        self._expire_at_s = now_s + min(_EXPIRE_EVERY_S, age_s)
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(self._settings.redis_timeout_s):
                dead_letters, webhooks = await self._dead_letters.expire(age_s)
                if dead_letters or webhooks:
                    logger.info("dropped %d dead letters and %d dead webhooks, too old", dead_letters, webhooks)

    def _mark_unavailable(self, reason: str) -> None:
        if not self.unavailable_reason:
            logger.log(self._log_level, "partition %d is unavailable: %s", self.number, reason)
        self.unavailable_reason = reason

    async def versions(self) -> dict[str, ModelDescription]:
        """All versions ever announced here; raises redis-py's errors."""
        return await self._presence.versions()

    def refusal(self, priority: Priority) -> Overloaded | None:
        """The problem that an image of this class would meet here now; None if it would be admitted as far as is
        known."""
        backlog = self._backlogs[priority]
        return self._overloaded(backlog.limit, priority) if backlog.is_closed else None

    def expect(self, request_id: str) -> asyncio.Future[Outcome]:
        """A future for the outcome. Create it before the request is admitted, and cancel it in the end."""
        return self._replies.expect(request_id)

    async def send(
        self, entry: Entry, priority: Priority = "interactive", version: str = ""
    ) -> asyncio.Future[Outcome]:
        """Admit an image, and return a future for its outcome. Cancelling this call cancels the work."""
        reply = self.expect(entry.id)
        try:
            await self.admit(entry, priority, version)
        except BaseException as error:
            reply.cancel()
            if isinstance(error, asyncio.CancelledError):
                await self.cancel(entry.id)
            raise
        return reply

    async def admit(self, entry: Entry, priority: Priority = "interactive", version: str = "") -> None:
        """Admit one image of a class, for one version only if one is named.

        Raises Overloaded, NoConsumer or StreamUnavailable.
        """
        try:
            await self._admit(entry, priority, version)
            self._replies.accepted(entry.id)
            self._refusing = False
        except StreamUnavailable as unavailable:
            # Reading may still work, for example when Redis is full: only this line reports it then.
            logger.log(logging.DEBUG if self._refusing else logging.WARNING, "images are refused: %s", unavailable)
            self._refusing = True
            # Other requests avoid this partition until the next refresh.
            self._mark_unavailable(unavailable.detail)
            raise
        except QueueFull as full:
            if not version or version != self.candidate:
                self._backlogs[priority].close_for(full.backlog)
            raise self._overloaded(full.backlog, priority) from full
        except NoLiveConsumer as error:
            raise NoConsumer(
                f"No consumer of {self._partition.model} is alive. Send the image again later.", retry_after_s=RETRY_S
            ) from error

    async def _admit(self, entry: Entry, priority: Priority, version: str) -> None:
        stream = self._stream(priority, version)
        try:
            with redis_errors_as_503():
                async with asyncio.timeout(self._settings.redis_timeout_s):
                    if entry.webhook:
                        await self._refuse_if_webhooks_wait()
                    await self._admission.admit(
                        request_trace.mark_sent(entry),
                        timeout_s=self._settings.request_timeout_s,
                        max_backlog=self._backlogs[priority].limit,
                        without_consumers=self._settings.accept_without_consumers,
                        stream=stream,
                        inline=self._has_older,
                    )
        except NotReplicated as error:
            if entry.reply:
                # The client sends it again under another id.
                with suppress(RedisError):
                    await self.store.cancel(entry.id)
            raise StreamUnavailable(
                f"Redis has not confirmed the image in time, with durability {self._settings.durability} and "
                f"{self._settings.wait_replicas} replicas. Send it again later.",
                retry_after_s=RETRY_S,
            ) from error

    async def send_if_idle(
        self, entry: Entry, version: str, *, busy: Sequence[str], max_backlog: int, timeout_s: float
    ) -> asyncio.Future[Outcome] | None:
        """Admit an image that no client waits for; None if more than `max_backlog` images wait for the `busy` versions,
        or if no consumer reads bulk images of this version.

        Raises AdmissionRefused and StreamUnavailable. Nothing of it affects how other images are admitted.
        """
        stream = self._partition.stream("bulk", version)
        if stream != self._stream("bulk", version):
            return None
        waiting = [self._partition.stream("interactive", one) for one in ("", *busy)]
        with redis_errors_as_503():
            async with asyncio.timeout(self._settings.redis_timeout_s):
                if sum([await self._redis.xlen(one.key) for one in waiting]) > max_backlog:
                    return None
                reply = self.expect(entry.id)
                try:
                    await self._admission.admit(entry, timeout_s=timeout_s, max_backlog=max_backlog, stream=stream)
                except BaseException:
                    reply.cancel()
                    raise
        return reply

    def _stream(self, priority: Priority, version: str) -> EntryStream:
        """The stream for an image of this class and version: one that a live consumer reads.

        While an upgrade has not come to all consumers, that may be the one for interactive images of any version.
        """
        if self.consumers and not self._newer:
            return self._partition.stream("interactive")
        only_older = version not in self._newer and any(one.version == version for one in self.consumers)
        return self._partition.stream(priority, "" if only_older else version)

    async def _refuse_if_webhooks_wait(self) -> None:
        """Raise Overloaded if receivers are so far behind that their webhooks would fill Redis."""
        waiting = await self._redis.xlen(self._partition.webhooks)
        if waiting >= self._settings.max_webhook_backlog:
            raise Overloaded(
                f"{waiting} webhooks wait for their delivery. Send the image again later, or without a webhook.",
                retry_after_s=RETRY_S,
            )

    async def cancel(self, request_id: str) -> None:
        """Cancel a request that nobody waits for any more, if Redis can be reached."""
        with suppress(RedisError):
            await asyncio.shield(self.store.cancel(request_id))

    async def delete(self, request_id: str) -> bool:
        """Delete the outcome of a request that has ended, and its dead letter, which may outlive the outcome.

        False if there is neither.
        """
        state = await self.store.state(request_id)
        gave_up = isinstance(state, Failed) or state == "unknown"
        dropped = gave_up and await self._dead_letters.drop_of_request(request_id)
        return await self.store.delete(request_id) or dropped

    def _overloaded(self, backlog: int, priority: Priority) -> Overloaded:
        queue = "queue for bulk images" if priority == "bulk" else "queue"
        return Overloaded(
            f"The {queue} is full ({backlog} images wait). Send the image again after the time in Retry-After.",
            retry_after_s=self._backlogs[priority].retry_after_s(backlog),
        )
