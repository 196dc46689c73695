"""The entrance to one model's stream: who is let in, and what those are told who are not. Knows no reply."""

import asyncio
import logging
import math
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest import outage
from ingest import request_trace
from ingest.backpressure import Gate
from ingest.errors import NoConsumer, Overloaded, StreamUnavailable
from results.store import Store
from stream.admission import Admission, NoLiveConsumer, NotReplicated, QueueFull
from stream.entry import Entry
from stream.keys import Partition
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: The part of redis_timeout_s that replicas have; the answer has to come back within the whole.
_PART = 0.5


class Entrance:
    """Admission behind a gate that shuts, for a moment, where the stream was full."""

    def __init__(self, redis: Redis, store: Store, settings: IngestSettings, partition: Partition) -> None:
        self._settings = settings
        self._model = partition.model
        self._store = store
        self._admission = Admission(
            redis,
            partition,
            result_ttl_s=settings.result_ttl_s,
            replicas=settings.wait_replicas,
            wait_s=settings.redis_timeout_s * _PART,
        )
        self._failing = False
        self._gate = Gate(
            max_backlog=math.ceil(settings.max_backlog / settings.partitions), max_wait_s=settings.max_wait_s
        )

    def set_rate(self, images_per_s: float) -> None:
        """What all living consumers can do together; 0 where it is not known."""
        self._gate.set_rate(images_per_s)

    def refuse_if_full(self) -> None:
        """Raise Overloaded where an image would be refused, before anybody decodes it."""
        if self._gate.shut:
            raise self._overloaded(self._gate.most)

    async def admit(self, entry: Entry) -> None:
        """Let one image in; raises Overloaded, NoConsumer or StreamUnavailable."""
        try:
            with outage.told():
                async with asyncio.timeout(self._settings.redis_timeout_s):
                    await self._admission.admit(
                        request_trace.mark_sent(entry),
                        timeout_s=self._settings.request_timeout_s,
                        max_backlog=self._gate.most,
                        without_consumers=self._settings.accept_without_consumers,
                    )
            self._failing = False
        except StreamUnavailable as unavailable:
            # Reading may go on all the while, where Redis is full for example: nothing else would tell.
            logger.log(logging.DEBUG if self._failing else logging.WARNING, "images are refused: %s", unavailable)
            self._failing = True
            raise
        except QueueFull as full:
            self._gate.shut_for(full.backlog)
            raise self._overloaded(full.backlog) from full
        except NoLiveConsumer as without_consumers:
            raise NoConsumer(
                f"No consumer of {self._model} is alive. Send the image again later.", retry_after_s=outage.RETRY_S
            ) from without_consumers
        except NotReplicated as unreplicated:
            if entry.reply:
                # Its client will send it again under another id.
                with suppress(RedisError):
                    await self._store.cancel(entry.id)
            raise StreamUnavailable(
                f"Fewer than {self._settings.wait_replicas} replicas of Redis have the image in time. "
                "Send it again later.",
                retry_after_s=outage.RETRY_S,
            ) from unreplicated

    def _overloaded(self, backlog: int) -> Overloaded:
        return Overloaded(
            f"The queue is full ({backlog} images wait). Send the image again after the time in Retry-After.",
            retry_after_s=self._gate.retry_after_s(backlog),
        )
