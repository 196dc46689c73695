"""The client of one model: sends prepared images to its consumers and waits for their predictions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from ingest import metrics
from ingest.auth.owner import owner
from ingest.dispatch.cache import Cache
from ingest.dispatch.earlier_requests import EarlierRequests
from ingest.dispatch.partition_client import PartitionClient, PreparedImage
from ingest.dispatch.partitions import Partitions, Versions
from ingest.dispatch.release import ReleaseRouter, caller
from ingest.dispatch.shadow import Shadow
from ingest.errors import (
    RETRY_S,
    ModelUnloaded,
    NoConsumer,
    Overloaded,
    StreamUnavailable,
    problem_of,
)
from ingest.request_trace import current_trace
from results.outcome import Done, Failed, Outcome, is_lost_in_redis
from stream.connection.clients import Connections
from stream.host.logs import request_ids
from stream.keys import Partition, Priority, new_id
from stream.model import ModelDescription
from stream.releases import Release
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Problems of one partition that another may not have.
_TRY_NEXT: Final = (NoConsumer, Overloaded, StreamUnavailable)


class ModelClient:
    """Sends images to the consumers of one model. `requests` are those that were made before."""

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
        self.requests = EarlierRequests(self.partitions, result_ttl_s=settings.result_ttl_s, ingest=ingest)

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
            raise ModelUnloaded(
                f"{self.name} was unloaded. Load it with: POST /v2/repository/models/{self.name}/load",
                retry_after_s=RETRY_S,
            )
        return self.versions.newest

    async def described(self, version: str | None = None) -> ModelDescription:
        """The description of this version, or of the newest one. Raises what `model` does, and StreamUnavailable."""
        return await self.versions.described(version) if version else self.model

    @property
    def accepts(self) -> bool:
        """Whether images are accepted, as far as this depends on consumers."""
        return not self.unloaded and bool(self.versions.offered)

    def refuse_if_full(self, priority: Priority) -> None:
        """Raise Overloaded if every partition would refuse an image of this class, before anybody decodes it."""
        refusals = [partition.refusal(priority) for partition in self.partitions.candidates()]
        if all(refusals) and (last := refusals[-1]):
            raise last

    async def classify(self, image: PreparedImage, *, version: str | None = None) -> Done:
        """Classify one image; raises a Problem on failure, and PreparedForAnother if its model was replaced.

        Cancelling this call cancels the work. A cached prediction of the image's model, or of the `version` that is
        wanted, saves it.
        """
        if self._cache and (known := await self._recall(self._cache, image, version)):
            return known
        began, timeout_s = time.perf_counter(), self._settings.request_timeout_s
        metrics.IN_FLIGHT.inc()
        try:
            outcome = await self._outcome(image, timeout_s)
            left_s = timeout_s - (time.perf_counter() - began)
            if is_lost_in_redis(outcome) and left_s > 0:
                logger.warning("sending an image again: request=%s", outcome.id)
                outcome = await self._outcome(image, left_s)
        finally:
            metrics.IN_FLIGHT.dec()
        if isinstance(outcome, Failed):
            raise problem_of(outcome)
        _record_stages(outcome, waited_s=time.perf_counter() - began)
        if self._cache or self.release:
            await self.note_answer(image, outcome)
        return outcome

    async def _recall(self, cache: Cache, image: PreparedImage, version: str | None) -> Done | None:
        wanted = image.model if version is None else await self.versions.described(version)
        known = await cache.recall(wanted, image.pixels, top=image.top, request_id=new_id(owner=owner.get()))
        if known:
            _log_with(known.id)
        return known

    async def _outcome(self, image: PreparedImage, wait_s: float) -> Outcome:
        partition, request_id, reply = await self._send(image)
        try:
            return await self._await(request_id, reply, wait_s)
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

        sent = await self._first_to_take(image, self.partitions.candidates(image.model.preparation), send)
        _log_with(sent[1])
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
        version = image.version
        while True:
            for partition in partitions:
                try:
                    return await take(partition, version)
                except _TRY_NEXT as problem:
                    refusal = problem
            if not isinstance(refusal, Overloaded) or not (version := self._other_version(image, version)):
                raise refusal

    def _other_version(self, image: PreparedImage, version: str) -> str:
        """The version that gets an image instead of this one; empty if none does."""
        if self.release is None or not (stable := self.versions.known(self.release.release.stable)):
            return ""
        return self.release.yields(version) if stable.preparation == image.model.preparation else ""

    async def submit(self, image: PreparedImage, *, request_id: str = "") -> str:
        """Have one image accepted, and return its request id; `requests.wait` fetches the outcome. Raises a Problem.

        An id that was accepted before is not accepted again, and nothing changes. The id names its partition, so
        no other partition takes the image.
        """

        async def submit(partition: PartitionClient, version: str) -> str:
            entry = image.entry(request_id or new_id(partition.number, owner.get()), reply="")
            cache = None if image.webhook else self._cache
            if not (cache and await cache.recall(image.model, image.pixels, top=image.top, request_id=entry.id)):
                await partition.admit(entry, image.priority, version)
            return entry.id

        of_preparation = self.partitions.candidates(image.model.preparation)
        candidates = [self.partitions.of_reserved(request_id)] if request_id else of_preparation
        accepted = await self._first_to_take(image, candidates, submit)
        _log_with(accepted)
        return accepted

    async def note_answer(self, image: PreparedImage, done: Done) -> None:
        """Keep the prediction for other requests with the same pixels, and compare it with a shadow's."""
        if self._cache is not None:
            await self._cache.keep(image.pixels, done)
        if self.release is not None:
            self._shadow.offer(self.release, image, done)

    async def _await(self, request_id: str, reply: asyncio.Future[Outcome], wait_s: float) -> Outcome:
        try:
            async with asyncio.timeout(wait_s):
                return await reply
        except TimeoutError:
            return await self.requests.at_deadline(request_id)


def _log_with(request_id: str) -> None:
    """From now on, this task's log lines name the request."""
    if (ids := request_ids.get()) is not None:
        ids.append(request_id)


def _record_stages(done: Done, *, waited_s: float) -> None:
    """Record the result of one image, which came `waited_s` seconds after the image was offered for admission."""
    queue_s, run_s = done.queue_ms / 1000, done.run_ms / 1000
    metrics.QUEUE.observe(queue_s)
    metrics.INFERENCE.observe(run_s)
    # The time in the queue begins by Redis's clock, in whole milliseconds. The rest can be slightly negative.
    metrics.REPLY.observe(max(0.0, waited_s - queue_s - run_s))
    if trace := current_trace.get():
        trace.mark_answered(done)
