"""The client of one partition: admits prepared images into its stream and receives their outcomes."""

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from redis.exceptions import RedisError

from ingest import metrics
from ingest.backpressure import BacklogLimit
from ingest.dispatch.partition_state import PartitionState
from ingest.errors import RETRY_S, NoConsumer, Overloaded, StreamUnavailable, redis_errors_as_503, unavailable
from ingest.request_trace import current_trace
from results.dead_letters import DeadLetters
from results.deletion import delete_ended
from results.outcome import Outcome
from results.replies import Replies
from results.store import Store
from results.webhook import Webhook
from stream.admission import Admission, NoLiveConsumer, NotDurable, NotReplicated, QueueFull
from stream.connection.clients import Connections, connect_reader
from stream.entry import Entry
from stream.host.text import counted
from stream.keys import PRIORITIES, EntryStream, Partition, Priority
from stream.model import ModelDescription
from stream.server_check import reason_of
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: The share of redis_timeout_s that replicas have to acknowledge an image.
_REPLICATION_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Raw pixels [height, width, channels] of the `model` version that the image was prepared for.

    They are uint8, or uint16 in steps of 1/256 if the model takes fractions. `top` is the number of classes wanted
    (0: all). `decoding_s` is how long ingest will still decode other images. `priority` is the class that the image
    waits in. Only consumers of `version` take it; empty: all.
    `webhook` says where to deliver the outcome, if anywhere; its id is that of the request, once there is one. Such an
    image is never answered from the cache, because an outcome is delivered when its entry is completed.
    """

    model: ModelDescription
    pixels: bytes
    top: int
    decoding_s: float = 0.0
    priority: Priority = "interactive"
    version: str = ""
    webhook: Webhook | None = None

    def entry(self, request_id: str, *, reply: str) -> Entry:
        """The entry of this image. `reply` names the ingest that waits for its outcome, and may be empty."""
        model = self.model
        pixels, fractions = self.pixels, b""
        if not model.resize.rounded and len(pixels) > model.input_bytes:
            pixels, fractions = _split(pixels)
        return Entry(
            request_id,
            reply,
            self.top,
            model.height,
            model.width,
            pixels,
            channels=model.channels,
            more_ms=math.ceil(self.decoding_s * 1000),
            fractions=fractions,
            preparation=model.preparation,
            webhook=replace(self.webhook, id=request_id).encode() if self.webhook else "",
        )


def _split(pixels: bytes) -> tuple[bytes, bytes]:
    """The rounded pixels, and for each its fraction plus one half, in 256ths."""
    shifted = (np.frombuffer(pixels, "<u2") + np.uint16(128)).astype("<u2", copy=False).view(np.uint8)
    return shifted[1::2].tobytes(), shifted[::2].tobytes()


class PartitionClient:
    """One partition: what is known of it (`state`), its stream and its outcomes."""

    def __init__(
        self, connections: Connections, settings: IngestSettings, partition: Partition, *, ingest: str
    ) -> None:
        redis = connections.client_for(partition)
        self._settings = settings
        self._redis = redis
        self._partition = partition
        self._reader = connect_reader(settings, metrics.REDIS, partition)
        self.store = Store(redis, partition)
        self._replies = Replies(self._reader, self.store, partition, ingest=ingest, result_ttl_s=settings.result_ttl_s)
        self._dead_letters = DeadLetters(redis, partition)
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
        #: The version that a release tries. The stable version takes what its queue does not.
        self.candidate = ""
        self.number = partition.number
        self.state = PartitionState(redis, settings, partition, self._dead_letters, why_refused=self._why_refused)

    async def run(self) -> None:
        """Receive replies until cancelled."""
        try:
            await self._replies.run()
        finally:
            await self._reader.aclose()

    async def refresh(self) -> RedisError | TimeoutError | None:
        """Read which consumers are alive. Returns the error if the partition cannot be reached."""
        error = await self.state.refresh()
        if error is None:
            self._backlogs["interactive"].set_rate(math.fsum(one.images_per_s for one in self.state.consumers))
            self._backlogs["bulk"].set_rate(math.fsum(one.bulk_rate for one in self.state.consumers))
        return error

    async def _why_refused(self) -> str:
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                await self._admission.probe()
        except (NotReplicated, NotDurable):
            return self._unconfirmed
        except (RedisError, TimeoutError) as error:
            return f"{reason_of(error)}."
        return ""

    @property
    def _unconfirmed(self) -> str:
        durability, replicas = self._settings.durability, self._settings.wait_replicas
        on = f" and {counted(replicas, 'replica')}" if replicas else ""
        return f"Redis does not confirm images, with durability {durability}{on}."

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
            async with asyncio.timeout(self._settings.redis_timeout_s):
                if entry.webhook:
                    await self._refuse_if_webhooks_wait()
                trace = current_trace.get()
                await self._admission.admit(
                    trace.mark_sent(entry) if trace else entry,
                    timeout_s=self._settings.request_timeout_s,
                    max_backlog=self._backlogs[priority].limit,
                    without_consumers=self._settings.accept_without_consumers or self.state.presumes_consumers,
                    stream=self._stream(priority, version),
                    inline=self.state.has_older,
                )
        except QueueFull as full:
            if not version or version != self.candidate:
                self._backlogs[priority].close_for(full.backlog)
            raise self._overloaded(full.backlog, priority) from full
        except NoLiveConsumer as error:
            raise NoConsumer(
                f"No consumer of {self._partition.model} is alive. Send the image again later.", retry_after_s=RETRY_S
            ) from error
        except (NotReplicated, NotDurable) as error:
            if entry.reply and isinstance(error, NotReplicated):
                await self.cancel(entry.id)  # The client sends it again under another id.
            problem = StreamUnavailable(f"{self._unconfirmed} Send it again later.", retry_after_s=RETRY_S)
            raise self._refuse_images(problem) from error
        except (RedisError, TimeoutError) as error:
            raise self._refuse_images(unavailable(error)) from error
        self._replies.accepted(entry.id)
        self.state.accepts = True

    def _refuse_images(self, problem: StreamUnavailable) -> StreamUnavailable:
        self.state.refuse(problem.detail)
        return problem

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
        consumers, newer = self.state.consumers, self.state.newer
        if consumers and not newer:
            return self._partition.stream("interactive")
        only_older = version not in newer and any(one.version == version for one in consumers)
        return self._partition.stream(priority, "" if only_older else version)

    async def _refuse_if_webhooks_wait(self) -> None:
        """Raise Overloaded if receivers are so far behind that their webhooks would fill Redis."""
        waiting = await self._redis.xlen(self._partition.webhooks)
        if waiting >= self._settings.max_webhook_backlog:
            raise Overloaded(
                f"{waiting} webhooks wait for their delivery, as many as max_webhook_backlog allows. Send the image "
                "again later, or without a webhook.",
                retry_after_s=RETRY_S,
            )

    async def cancel(self, request_id: str) -> None:
        """Cancel a request that nobody waits for any more, if Redis can be reached."""
        with suppress(RedisError):
            await asyncio.shield(self.store.cancel(request_id))

    async def delete(self, request_id: str) -> bool:
        """Delete what is kept of a request that has ended; False if there is nothing."""
        return await delete_ended(self.store, self._dead_letters, request_id)

    def _overloaded(self, backlog: int, priority: Priority) -> Overloaded:
        queue = "queue for bulk images" if priority == "bulk" else "queue"
        limit = self._backlogs[priority]
        return Overloaded(
            f"The {queue} is full: {backlog} images wait, {limit.reached()}. Send the image again after the time in "
            "Retry-After.",
            retry_after_s=limit.retry_after_s(backlog),
        )
