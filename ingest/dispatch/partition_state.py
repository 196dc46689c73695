"""What an ingest knows of one partition. It reads that again every second, and drops old dead letters on the way."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from results.dead_letters import DeadLetters
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import RECOVERY_S, ConsumerReport, Presence
from stream.server_check import WritesRefused, reason_of, refused_writes
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: Seconds between two searches for dead letters that are too old. Each costs Redis some microseconds.
_EXPIRE_EVERY_S: Final = 60.0


class PartitionState:
    """Its live consumers, and why it takes no images: `unavailable_reason` is empty while it takes them.

    `answers` is whether the last refresh could read it. `accepts` is whether Redis took the last write: an image, or
    what `why_refused` tries, which returns why Redis refuses it, or an empty text. It is awaited at first and after
    each refused image, until Redis accepts. `presumes_consumers` is whether consumers count as alive without a valid
    heartbeat: in an outage that lasts or has just ended, they could send none.

    `newer` are the versions of consumers that are not older than this ingest, and `has_older` is whether others are.
    """

    def __init__(
        self,
        redis: Redis,
        settings: IngestSettings,
        partition: Partition,
        dead_letters: DeadLetters,
        *,
        why_refused: Callable[[], Awaitable[str]],
    ) -> None:
        self._redis = redis
        self._settings = settings
        self._number = partition.number
        # The only partition is unavailable when Redis is: the registry logs that, and `refuse` what it refuses.
        self._log_level = logging.WARNING if settings.partitions > 1 else logging.DEBUG
        self._dead_letters = dead_letters
        self._presence = Presence(redis, partition)
        self._expire_at_s = 0.0
        self._why_refused = why_refused
        #: None before the first write.
        self.accepts: bool | None = None
        self._in_outage = False
        self._presume_until_s = 0.0
        self.presumes_consumers = False
        self.answers = False
        self.consumers: list[ConsumerReport] = []
        self.newer: set[str] = set()
        self.has_older = False
        self.unavailable_reason = ""

    def runs(self, preparation: str) -> bool:
        """Whether a live consumer runs images with this preparation; empty: whichever images."""
        return not preparation or any(one.preparation in {preparation, ""} for one in self.consumers)

    async def refresh(self) -> RedisError | TimeoutError | None:
        """Read which consumers are alive. Returns the error if the partition cannot be reached."""
        error = await self._refresh()
        recovers = self._in_outage or time.monotonic() < self._presume_until_s
        self.presumes_consumers = recovers and bool(self.consumers)
        return error

    async def _refresh(self) -> RedisError | TimeoutError | None:
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                reports = await self._presence.consumers()
                alive = [one for one in reports if one.alive]
                # A server that refuses writes refuses heartbeats too: then it is not that no consumer runs.
                reason = "" if alive else await refused_writes(self._redis)
        except (RedisError, TimeoutError) as error:
            self.answers, self._in_outage = False, True
            self._mark_unavailable(reason_of(error))
            return error
        self.answers = True
        if reason:
            self._mark_unavailable(reason)
            self._in_outage = True
            return WritesRefused(reason)
        if self._in_outage:
            self._in_outage = False
            self._presume_until_s = time.monotonic() + RECOVERY_S + self._settings.redis_timeout_s
        self.consumers = alive or self._from_before_the_outage(reports)
        self.newer = {one.version for one in self.consumers if not one.is_older}
        self.has_older = any(one.is_older for one in self.consumers)
        # Reading works, for example when Redis is full: only a write shows whether it takes images.
        if not self.accepts and (refusal := await self._why_refused()):
            self.refuse(refusal)
        else:
            self.accepts = True
            if self.unavailable_reason:
                logger.info("partition %d is available again", self._number)
            self.unavailable_reason = ""
        await self._expire_dead_letters()
        return None

    def _from_before_the_outage(self, reports: list[ConsumerReport]) -> list[ConsumerReport]:
        before = {one.name for one in self.consumers} if time.monotonic() < self._presume_until_s else set()
        return [one for one in reports if one.name in before]

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
                    logger.info("dropped what was too old: dead_letters=%d dead_webhooks=%d", dead_letters, webhooks)

    def refuse(self, reason: str) -> None:
        """Redis took none: nothing is sent to this partition until a refresh finds that it takes images again."""
        if self._log_level == logging.DEBUG and self.accepts is not False:
            logger.warning("images are refused: %s", reason)
        self.accepts = False
        self._mark_unavailable(reason)

    def _mark_unavailable(self, reason: str) -> None:
        if not self.unavailable_reason:
            logger.log(self._log_level, "partition %d is unavailable: %s", self._number, reason)
        self.unavailable_reason = reason

    async def versions(self) -> dict[str, ModelDescription]:
        """All versions ever announced here; raises redis-py's errors."""
        return await self._presence.versions()
