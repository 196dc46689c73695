"""The client of one model: sends prepared images to its consumers and waits for their predictions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from ingest import metrics, request_trace
from ingest.auth.owner import owner
from ingest.dispatch.cache import Cache
from ingest.dispatch.partition_client import PartitionClient
from ingest.dispatch.partitions import Partitions, Versions, first_to_take
from ingest.dispatch.prepared_image import PreparedImage
from ingest.dispatch.release import ReleaseRouter, caller
from ingest.dispatch.shadow import Shadow
from ingest.errors import (
    ModelUnloaded,
    Overloaded,
    raise_for_outcome,
    redis_errors_as_503,
)
from results.outcome import Done, Failed, Outcome, is_lost_in_redis
from results.store import State
from stream.connection.clients import Connections
from stream.host import logs
from stream.keys import Partition, Priority, new_id
from stream.model import ModelDescription
from stream.releases import Release
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ModelClient:
    """Sends images to the consumers of one model, and finds the results of earlier requests."""

    def __init__(self, connections: Connections, settings: IngestSettings, model: str, *, ingest: str) -> None:
        self._settings = settings
        self._ingest = ingest
        self._cache = Cache(connections, settings, Partition(model)) if settings.cache_ttl_s > 0 else None
        self.partitions = Partitions(connections, settings, model, ingest=ingest)
        self.versions = Versions(self.partitions, model, without_consumers=settings.accept_without_consumers)
        self.name = model
        #: Whether an operator has unloaded the model.
        self.unloaded = False
        #: The release in force; None while any version takes an image.
        self.release: ReleaseRouter | None = None
        self._shadow = Shadow(self.partitions, self.versions, ingest=ingest)

    def obey(self, release: Release | None) -> None:
        """From now on, images go to the versions that this release names."""
        for partition in self.partitions:
            partition.candidate = release.candidate if release else ""
        if release is None:
            self.release = None
            return
        if self.release is None or self.release.release != release:
            self.release = ReleaseRouter(self.name, release)
        self.release.refresh(self.versions.served)

    def route(self, headers: Mapping[str, str], version: str | None = None) -> tuple[ModelDescription, str]:
        """What to prepare a request's images for, and the version whose consumers alone take them; empty: any.

        It is the `version` that the request names; else a release chooses. Raises NoConsumer or ModelUnloaded.
        """
        newest = self.model
        if version is None:
            version = self.release.choose(caller(headers)) if self.release else ""
            if not version:
                return newest, self.versions.only_taker(newest)
        elif len(self.versions.served) == 1:
            return newest, self.versions.only_taker(newest)
        return self.versions.known(version) or newest, version

    @property
    def caches(self) -> bool:
        """Whether predictions may come from the cache."""
        return self._cache is not None

    @property
    def model(self) -> ModelDescription:
        """The newest version on offer, for which images are prepared. Raises NoConsumer or ModelUnloaded."""
        if self.unloaded:
            raise ModelUnloaded(f"{self.name} was unloaded. Load it with: POST /v2/repository/models/{self.name}/load")
        return self.versions.newest

    @property
    def accepts(self) -> bool:
        """Whether images are accepted, as far as this depends on consumers."""
        return not self.unloaded and bool(self.versions.offered)

    def refuse_if_full(self, priority: Priority = "interactive") -> None:
        """Raise Overloaded if every partition would refuse an image of this class, before anybody decodes it."""
        refusals = [partition.refusal(priority) for partition in self.partitions.candidates()]
        if all(refusals) and (last := refusals[-1]):
            raise last

    async def state(self, request_id: str) -> State:
        """Where a request of this model stands; raises StreamUnavailable."""
        partition = self.partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.store.state(request_id) if partition else "unknown"

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request that is still queued; False if there is none. Raises StreamUnavailable."""
        partition = self.partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.store.cancel(request_id) if partition else False

    async def delete(self, request_id: str) -> bool:
        """Delete the outcome of a request that has ended, and its dead letter with the pixels.

        False if there is neither. Raises StreamUnavailable.
        """
        partition = self.partitions.of_request(request_id)
        with redis_errors_as_503():
            return await partition.delete(request_id) if partition else False

    async def classify(self, image: PreparedImage, *, version: str | None = None) -> Done:
        """Classify one image; raises a Problem on failure, and PreparedForAnother if its model was replaced.

        Cancelling this call cancels the work. A cached prediction of the image's model, or of the `version` that is
        wanted, saves it.
        """
        if known := await self._recall(image, version):
            return known
        done = await self._run(image)
        await self.note_answer(image, done)
        return done

    async def _recall(self, image: PreparedImage, version: str | None) -> Done | None:
        if self._cache is None:
            return None
        wanted = image.model if version is None else await self.versions.described(version)
        known = await self._cache.recall(wanted, image.pixels, top=image.top, request_id=new_id(owner=owner.get()))
        if known:
            logs.add_request_id(known.id)
        return known

    async def _run(self, image: PreparedImage) -> Done:
        began = time.perf_counter()
        metrics.IN_FLIGHT.inc()
        try:
            outcome = await self._outcome(image)
            # At its deadline a client has waited long enough.
            if is_lost_in_redis(outcome) and time.perf_counter() - began < self._settings.request_timeout_s / 2:
                logger.warning("sending an image again: request=%s", outcome.id)
                outcome = await self._outcome(image)
            done = raise_for_outcome(outcome)
            metrics.record_stages(done, waited_s=time.perf_counter() - began)
            request_trace.mark_answered(done)
            return done
        finally:
            metrics.IN_FLIGHT.dec()

    async def _outcome(self, image: PreparedImage) -> Outcome:
        partition, request_id, reply = await self._send(image)
        try:
            return await self._await(request_id, reply)
        except asyncio.CancelledError:
            await partition.cancel(request_id)
            raise
        finally:
            reply.cancel()

    async def _send(self, image: PreparedImage) -> tuple[PartitionClient, str, asyncio.Future[Outcome]]:
        """Have any partition accept the image; raises the last partition's problem if none does."""

        async def send(
            partition: PartitionClient, version: str
        ) -> tuple[PartitionClient, str, asyncio.Future[Outcome]]:
            entry = image.entry(new_id(partition.number, owner.get()), reply=self._ingest)
            return partition, entry.id, await partition.send(entry, image.priority, version)

        sent = await self._first_to_take(image, self.partitions.candidates(), send)
        logs.add_request_id(sent[1])
        return sent

    async def _first_to_take(
        self,
        image: PreparedImage,
        partitions: Sequence[PartitionClient],
        take: Callable[[PartitionClient, str], Awaitable[T]],
    ) -> T:
        """The result of the first partition that takes an image for its version; raises the last one's problem.

        If the queue for a candidate is full, the stable version gets the image, unless its images are prepared
        differently.
        """
        try:
            return await first_to_take(partitions, lambda partition: take(partition, image.version))
        except Overloaded:
            if self.release is None or not (stable := self.versions.known(self.release.release.stable)):
                raise
            other = self.release.yields(image.version) if stable.preparation == image.model.preparation else ""
            if not other:
                raise
        return await first_to_take(partitions, lambda partition: take(partition, other))

    async def submit(self, image: PreparedImage, *, request_id: str = "") -> str:
        """Have one image accepted, and return its request id; `wait` fetches the outcome. Raises a Problem.

        An id that was accepted before is not accepted again, and nothing changes. The id names its partition, so
        no other partition takes the image.
        """

        async def submit(partition: PartitionClient, version: str) -> str:
            entry = image.entry(request_id or new_id(partition.number, owner.get()), reply="")
            cache = None if image.webhook else self._cache
            if not (cache and await cache.recall(image.model, image.pixels, top=image.top, request_id=entry.id)):
                await partition.admit(entry, image.priority, version)
            return entry.id

        candidates = [self._partition(request_id)] if request_id else self.partitions.candidates()
        accepted = await self._first_to_take(image, candidates, submit)
        logs.add_request_id(accepted)
        return accepted

    def _partition(self, request_id: str) -> PartitionClient:
        partition = self.partitions.of_request(request_id)
        assert partition, "a reserved id names a partition that exists"
        return partition

    async def note_answer(self, image: PreparedImage, done: Done) -> None:
        """Keep the prediction for other requests with the same pixels, and compare it with a shadow's."""
        if self._cache is not None:
            await self._cache.keep(image.pixels, done)
        if self.release is not None:
            self._shadow.offer(self.release, image, done)

    async def wait(self, request_id: str, wait_s: float) -> State:
        """Where a request stands: as soon as it has ended, and after `wait_s` seconds at the latest."""
        if wait_s <= 0:
            return await self.state(request_id)
        partition = self._partition(request_id)
        reply = partition.expect(request_id)
        try:
            with redis_errors_as_503():
                state = await partition.store.subscribe(request_id, self._ingest)
            if state != "queued":
                return state
            async with asyncio.timeout(wait_s):
                return await reply
        except TimeoutError:
            return await self.state(request_id)
        finally:
            reply.cancel()

    async def reserve(self, key: str, fingerprint: str) -> tuple[str, str]:
        """The request id and the fingerprint that an idempotency key was first used with."""
        offered = new_id(self.partitions.candidates()[0].number, owner.get())
        # All keys are in the first partition: they must be found again after the number of partitions has changed.
        store = self.partitions.first.store
        with redis_errors_as_503():
            return await store.reserve_idempotency_key(key, offered, fingerprint, ttl_s=self._settings.result_ttl_s)

    async def _await(self, request_id: str, reply: asyncio.Future[Outcome]) -> Outcome:
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return await reply
        except TimeoutError:
            return await self._check_at_deadline(request_id)

    async def _check_at_deadline(self, request_id: str) -> Outcome:
        """Look into the store once: a reply that was trimmed from the reply stream is found there."""
        state = await self.state(request_id)
        if isinstance(state, Done | Failed):
            return state
        if state == "unknown":
            with redis_errors_as_503():
                store = self._partition(request_id).store
                return await store.report_vanished(request_id, ttl_s=self._settings.result_ttl_s)
        return Failed(request_id, "expired", "No consumer answered in time.")
