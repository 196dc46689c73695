"""Dispatch: pixels of one model go into the stream, and their outcome comes back. Knows no HTTP and no picture."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ingest import metrics, outage
from ingest import request_trace
from ingest.auth.owner import new_id
from ingest.dispatch.cache import Cache
from ingest.dispatch.partition_client import Route
from ingest.dispatch.partitions import Routes
from ingest.errors import NoConsumer, Overloaded, Problem, StreamUnavailable
from ingest.failures import done_or_problem
from results.outcome import Done, Failed, Outcome
from results.store import State
from stream.connection.clients import Connections
from stream.entry import Entry
from stream.host import logs
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import ConsumerReport
from stream.settings import IngestSettings

T = TypeVar("T")

#: What one partition says that another need not.
_ELSEWHERE = (NoConsumer, Overloaded, StreamUnavailable)


@dataclass(frozen=True, slots=True)
class Picture:
    """One image on its way: raw uint8 [height, width, 3] of the model it was prepared for, how many classes are wanted
    (0: all), and for how long further pictures will still be decoded."""

    pixels: bytes
    top: int
    more_s: float = 0.0


class Dispatch:
    """The way to the consumers of one model and back."""

    def __init__(self, connections: Connections, settings: IngestSettings, model: str, *, ingest: str) -> None:
        self._settings = settings
        self._ingest = ingest
        self._versions: dict[str, ModelDescription] = {}
        self._cache = Cache(connections, settings, Partition(model))
        self.routes = Routes(connections, settings, model, ingest=ingest)
        self.name = model
        self.consumers: list[ConsumerReport] = []

    async def refresh(self) -> None:
        """Learn who is alive and what they serve; raises redis-py's errors or TimeoutError."""
        await self.routes.refresh()
        # One consumer serves many partitions.
        living = {one.name: one for route in self.routes for one in route.consumers}
        self.consumers = list(living.values())
        for route in self.routes:
            news = any(self._is_news(one) for one in route.consumers)
            if not route.away and (news or (self._settings.accept_without_consumers and not self._versions)):
                self._versions.update(await route.versions())

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
        if not self.consumers and self._settings.accept_without_consumers:
            return list(self._versions)
        return [one.version for one in self.consumers if one.version in self._versions]

    def refuse_if_full(self) -> None:
        """Raise Overloaded where an image would be refused everywhere, before anybody decodes it."""
        refusal: Overloaded | None = None
        for route in self.routes.spread():
            try:
                return route.refuse_if_full()
            except Overloaded as problem:
                refusal = problem
        assert refusal
        raise refusal

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
        route = self.routes.of(request_id)
        with outage.told():
            return await route.store.state(request_id) if route else "unknown"

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request that is still queued; False where there is none. Raises StreamUnavailable."""
        route = self.routes.of(request_id)
        with outage.told():
            return await route.store.cancel(request_id) if route else False

    async def classify(self, model: ModelDescription, picture: Picture, *, version: str | None = None) -> Done:
        """Have one image classified; raises a Problem where that fails. Cancelling it cancels the work.

        A known answer of the model, or of the `version` that is wanted, saves the work.
        """
        asked = model if version is None else await self._described(version)
        if self.caches and (known := await self._cache.recall(asked, _entry(new_id(), model, picture, reply=""))):
            return known
        done = await self._run(model, picture)
        await self._cache.keep(picture.pixels, done)
        return done

    async def _run(self, model: ModelDescription, picture: Picture) -> Done:
        began = time.perf_counter()
        metrics.IN_FLIGHT.inc()
        try:
            route, entry, reply = await self._send(model, picture)
            try:
                done = done_or_problem(await self._await(entry.id, reply))
            except asyncio.CancelledError:
                await route.drop(entry.id)
                raise
            finally:
                reply.cancel()
            metrics.record_stages(done, waited_s=time.perf_counter() - began)
            request_trace.mark_answered(done)
            return done
        finally:
            metrics.IN_FLIGHT.dec()

    async def _send(self, model: ModelDescription, picture: Picture) -> tuple[Route, Entry, asyncio.Future[Outcome]]:
        """Have the image accepted wherever it is; raises what the last partition said where none takes it."""

        async def send(route: Route) -> tuple[Route, Entry, asyncio.Future[Outcome]]:
            entry = _entry(new_id(route.number), model, picture, reply=self._ingest)
            return route, entry, await route.send(entry)

        return await _first(self.routes.spread(), send)

    async def submit(self, model: ModelDescription, picture: Picture, *, request_id: str = "") -> str:
        """Have one image accepted, and return its request id; `wait` fetches the outcome. Raises a Problem.

        An id that was accepted before is not accepted again, and nothing is changed. It names its partition, so that no
        other takes the image.
        """

        async def submit(route: Route) -> str:
            entry = _entry(request_id or new_id(route.number), model, picture, reply="")
            if await self._cache.recall(model, entry) is None:
                await route.admit(entry)
            return entry.id

        return await _first([self._route(request_id)] if request_id else self.routes.spread(), submit)

    def _route(self, request_id: str) -> Route:
        route = self.routes.of(request_id)
        assert route, "ids that were reserved name partitions that there are"
        return route

    async def remember(self, picture: Picture, done: Done) -> None:
        """Keep the answer to a picture that was submitted, for those who ask the same."""
        await self._cache.keep(picture.pixels, done)

    async def wait(self, request_id: str, wait_s: float) -> State:
        """Where a request stands: as soon as it has ended, after `wait_s` seconds at the latest."""
        if wait_s <= 0:
            return await self.state(request_id)
        route = self._route(request_id)
        reply = route.expect(request_id)
        try:
            with outage.told():
                state = await route.store.subscribe(request_id, self._ingest)
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
        offered = new_id(self.routes.spread()[0].number)
        # Keys have one place, however many partitions there are: it must be found again when that number has changed.
        with outage.told():
            return await self.routes.first.store.reserve_idempotency_key(key, offered, fingerprint, ttl_s=self._settings.result_ttl_s)

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


async def _first(routes: Iterable[Route], take: Callable[[Route], Awaitable[T]]) -> T:
    """What the first route gives that takes the image; raises what the last one said where none does."""
    refusal: Problem | None = None
    for route in routes:
        try:
            return await take(route)
        except _ELSEWHERE as problem:
            refusal = problem
    assert refusal
    raise refusal


def _entry(request_id: str, model: ModelDescription, picture: Picture, *, reply: str) -> Entry:
    logs.add_request_id(request_id)
    more_ms = math.ceil(picture.more_s * 1000)
    return Entry(request_id, reply, picture.top, model.height, model.width, picture.pixels, more_ms=more_ms)
