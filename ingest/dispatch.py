"""Dispatch: pixels of one model go into the stream, and their outcome comes back. Knows no HTTP and no picture."""

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from ingest import journey, metrics, outage
from ingest.cache import Cache
from ingest.entrance import Entrance
from ingest.failures import done_or_problem
from ingest.owner import new_id
from ingest.problems import NoConsumer
from results.outcome import Done, Failed, Outcome
from results.replies import Replies
from results.store import State, Store
from stream import logs
from stream.connection import Connections, connect_reader
from stream.entry import Entry
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import ConsumerReport, Presence
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Picture:
    """One image on its way: raw uint8 [height, width, 3] of the model it was prepared for, and how many classes
    are wanted (0: all)."""

    pixels: bytes
    top: int


class Dispatch:
    """The way to the consumers of one model and back."""

    def __init__(self, connections: Connections, settings: Settings, partition: Partition, *, ingest: str) -> None:
        redis = connections.of(partition)
        self._settings = settings
        self._ingest = ingest
        self._reader = connect_reader(settings, metrics.REDIS, partition)
        self._store = Store(redis, partition)
        self._entrance = Entrance(redis, settings, partition)
        self._cache = Cache(redis, settings, partition)
        self._replies = Replies(self._reader, self._store, partition, ingest=ingest)
        self._presence = Presence(redis, partition)
        self._versions: dict[str, ModelDescription] = {}
        self.name = partition.model
        self.consumers: list[ConsumerReport] = []

    async def run(self) -> None:
        """Receive replies until cancelled."""
        try:
            await self._replies.run()
        finally:
            await self._reader.aclose()

    async def refresh(self) -> None:
        """Learn who is alive and what they serve; raises redis-py's errors."""
        self.consumers = [one for one in await self._presence.consumers() if one.alive]
        self._entrance.set_rate(math.fsum(one.images_per_s for one in self.consumers))
        news = any(self._is_news(one) for one in self.consumers)
        if news or (self._settings.accept_unattended and not self._versions):
            self._versions.update(await self._presence.versions())

    def _is_news(self, report: ConsumerReport) -> bool:
        """Whether a consumer serves what is not known here: another version, or another file under a known one."""
        known = self._versions.get(report.version)
        return known is None or report.digest not in {"", known.digest}

    @property
    def caches(self) -> bool:
        """Whether an answer may come from the cache."""
        return self._cache.on

    @property
    def model(self) -> ModelDescription:
        """The newest version that is offered; pictures are prepared for it. Raises NoConsumer."""
        versions = self._offered()
        if not versions:
            raise NoConsumer(
                f"No consumer serves {self.name} at present. Start one with: python -m consumers --model {self.name}",
                retry_after_s=outage.RETRY_S,
            )
        return self._versions[max(versions, key=int)]

    @property
    def accepts(self) -> bool:
        """Whether images are taken, as far as this depends on consumers."""
        return bool(self._offered())

    def _offered(self) -> list[str]:
        """The versions that living consumers serve; where none lives and none need, all that were ever announced."""
        if not self.consumers and self._settings.accept_unattended:
            return list(self._versions)
        return [one.version for one in self.consumers if one.version in self._versions]

    def refuse_if_full(self) -> None:
        """Raise Overloaded where an image would be refused, before anybody decodes it."""
        self._entrance.refuse_if_full()

    async def labels(self, version: str) -> tuple[str, ...]:
        """The labels of the version that answered."""
        return (await self._described(version)).labels

    async def _described(self, version: str) -> ModelDescription:
        if version not in self._versions:
            with outage.told():
                await self.refresh()
        return self._versions[version]

    async def state(self, request_id: str) -> State:
        """Where a request of this model stands; raises StreamUnavailable."""
        with outage.told():
            return await self._store.state(request_id)

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request that is still queued; False where there is none. Raises StreamUnavailable."""
        with outage.told():
            return await self._store.cancel(request_id)

    async def classify(self, model: ModelDescription, picture: Picture, *, version: str | None = None) -> Done:
        """Have one image classified; raises a Problem where that fails. Cancelling it cancels the work.

        A known answer of the model, or of the `version` that is wanted, saves the work.
        """
        entry = _entry(new_id(), model, picture, reply=self._ingest)
        asked = model if version is None else await self._described(version)
        if known := await self._cache.recall(asked, entry):
            return known
        done = await self._run(entry)
        await self._cache.keep(entry.pixels, done)
        return done

    async def _run(self, entry: Entry) -> Done:
        reply = self._replies.expect(entry.id)
        began = time.perf_counter()
        metrics.IN_FLIGHT.inc()
        try:
            await self._entrance.admit(entry)
            done = done_or_problem(await self._await(entry.id, reply))
            metrics.answered(done, waited_s=time.perf_counter() - began)
            journey.answered(done)
            return done
        except asyncio.CancelledError:
            with suppress(RedisError):
                await asyncio.shield(self._store.cancel(entry.id))
            raise
        finally:
            metrics.IN_FLIGHT.dec()
            reply.cancel()

    async def submit(self, model: ModelDescription, picture: Picture, *, request_id: str = "") -> str:
        """Have one image accepted, and return its request id; `wait` fetches the outcome. Raises a Problem.

        An id that was accepted before is not accepted again, and nothing is changed.
        """
        entry = _entry(request_id or new_id(), model, picture, reply="")
        if await self._cache.recall(model, entry) is None:
            await self._entrance.admit(entry)
        return entry.id

    async def remember(self, picture: Picture, done: Done) -> None:
        """Keep the answer to a picture that was submitted, for those who ask the same."""
        await self._cache.keep(picture.pixels, done)

    async def wait(self, request_id: str, wait_s: float) -> State:
        """Where a request stands: as soon as it has ended, after `wait_s` seconds at the latest."""
        if wait_s <= 0:
            return await self.state(request_id)
        reply = self._replies.expect(request_id)
        try:
            with outage.told():
                state = await self._store.watch(request_id, self._ingest)
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
        with outage.told():
            return await self._store.reserve(key, new_id(), fingerprint, ttl_s=self._settings.result_ttl_s)

    async def _await(self, request_id: str, reply: asyncio.Future[Outcome]) -> Outcome:
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return await reply
        except TimeoutError:
            return await self._late(request_id)

    async def _late(self, request_id: str) -> Outcome:
        """At the deadline, one look at the store: a reply that was dropped from the stream is found there."""
        state = await self.state(request_id)
        if isinstance(state, Done | Failed):
            return state
        return Failed(request_id, "expired", "No consumer answered in time.")


def _entry(request_id: str, model: ModelDescription, picture: Picture, *, reply: str) -> Entry:
    logs.concern(request_id)
    return Entry(request_id, reply, picture.top, model.height, model.width, picture.pixels)
