"""Dispatch: pixels of one model go into the stream, and their outcome comes back. Knows no HTTP and no picture."""

import asyncio
import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest import metrics
from ingest.gate import Gate
from ingest.owner import new_id
from ingest.problems import (
    Cancelled,
    DeadlinePassed,
    InferenceFailed,
    NoConsumer,
    Overloaded,
    StreamUnavailable,
)
from results.outcome import Done, Failed, Outcome
from results.replies import Replies
from results.store import State, Store
from stream import logs
from stream.admission import Admission, Full, Unattended
from stream.connection import connect_reader, passes_by_itself
from stream.entry import Entry
from stream.keys import Partition
from stream.model import ModelDescription
from stream.presence import ConsumerReport, Presence
from stream.settings import Settings

logger = logging.getLogger(__name__)

#: Retry-After, in seconds, where nothing is known of when it will be better.
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Picture:
    """One image on its way: raw uint8 [height, width, 3] of the model it was prepared for, and how many classes
    are wanted (0: all)."""

    pixels: bytes
    top: int


class Dispatch:
    """The way to the consumers of one model and back."""

    def __init__(self, redis: Redis, settings: Settings, partition: Partition, *, ingest: str) -> None:
        self._settings = settings
        self._ingest = ingest
        self._reader = connect_reader(settings, metrics.RedisWitness())
        self._store = Store(redis, partition)
        self._admission = Admission(redis, partition, result_ttl_s=settings.result_ttl_s)
        self._gate = Gate(max_backlog=settings.max_backlog, max_wait_s=settings.max_wait_s)
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
        self._gate.set_rate(math.fsum(one.images_per_s for one in self.consumers))
        if any(one.version not in self._versions for one in self.consumers):
            self._versions.update(await self._presence.versions())

    @property
    def model(self) -> ModelDescription:
        """The newest version that a living consumer serves; pictures are prepared for it. Raises NoConsumer."""
        versions = [one.version for one in self.consumers if one.version in self._versions]
        if not versions:
            raise NoConsumer(
                f"No consumer serves {self.name} at present. Start one with: python -m consumers --model {self.name}",
                retry_after_s=_RETRY_S,
            )
        return self._versions[max(versions, key=int)]

    def refuse_if_full(self) -> None:
        """Raise Overloaded where an image would be refused, before anybody decodes it."""
        if self._gate.shut:
            raise self._overloaded(self._gate.most)

    async def labels(self, version: str) -> tuple[str, ...]:
        """The labels of the version that answered."""
        if version not in self._versions:
            await self.refresh()
        return self._versions[version].labels

    async def state(self, request_id: str) -> State:
        """Where a request of this model stands; raises StreamUnavailable."""
        try:
            return await self._store.state(request_id)
        except RedisError as error:
            raise _unavailable(error) from error

    async def cancel(self, request_id: str) -> bool:
        """Cancel a request that is still queued; False where there is none. Raises StreamUnavailable."""
        try:
            return await self._store.cancel(request_id)
        except RedisError as error:
            raise _unavailable(error) from error

    async def classify(self, model: ModelDescription, picture: Picture) -> Done:
        """Have one image classified; raises a Problem where that fails. Cancelling it cancels the work."""
        entry = _entry(new_id(), model, picture, reply=self._ingest)
        reply = self._replies.expect(entry.id)
        began = time.perf_counter()
        metrics.IN_FLIGHT.inc()
        try:
            await self._admit(entry)
            done = done_or_problem(await self._await(entry.id, reply))
            metrics.answered(done, waited_s=time.perf_counter() - began)
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
        await self._admit(entry)
        return entry.id

    async def wait(self, request_id: str, wait_s: float) -> State:
        """Where a request stands: as soon as it has ended, after `wait_s` seconds at the latest."""
        if wait_s <= 0:
            return await self.state(request_id)
        reply = self._replies.expect(request_id)
        try:
            state = await self._store.watch(request_id, self._ingest)
            if state != "queued":
                return state
            async with asyncio.timeout(wait_s):
                return await reply
        except TimeoutError:
            return await self.state(request_id)
        except RedisError as error:
            raise _unavailable(error) from error
        finally:
            reply.cancel()

    async def reserve(self, key: str, fingerprint: str) -> tuple[str, str]:
        """The request id and the fingerprint that an idempotency key was first used with."""
        try:
            return await self._store.reserve(key, new_id(), fingerprint, ttl_s=self._settings.result_ttl_s)
        except RedisError as error:
            raise _unavailable(error) from error

    async def _admit(self, entry: Entry) -> None:
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                await self._admission.admit(
                    entry, timeout_s=self._settings.request_timeout_s, max_backlog=self._gate.most
                )
        except Full as full:
            self._gate.shut_for(full.backlog)
            raise self._overloaded(full.backlog) from full
        except Unattended as unattended:
            raise NoConsumer(
                f"No consumer of {self.name} is alive. Send the image again later.", retry_after_s=_RETRY_S
            ) from unattended
        except (RedisError, TimeoutError) as error:
            raise _unavailable(error) from error

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

    def _overloaded(self, backlog: int) -> Overloaded:
        return Overloaded(
            f"The queue is full ({backlog} images wait). Send the image again after the time in Retry-After.",
            retry_after_s=self._gate.retry_after_s(backlog),
        )


def _entry(request_id: str, model: ModelDescription, picture: Picture, *, reply: str) -> Entry:
    logs.concern(request_id)
    return Entry(request_id, reply, picture.top, model.height, model.width, picture.pixels)


def _unavailable(error: Exception) -> StreamUnavailable:
    if isinstance(error, RedisError) and not passes_by_itself(error):
        logger.error("Redis refuses what ingest asks: %s", error)
    return StreamUnavailable(
        f"Redis cannot take images at present ({type(error).__name__}). Send the image again later.",
        retry_after_s=_RETRY_S,
    )


def done_or_problem(outcome: Outcome) -> Done:
    """The answer, or the Problem that a failure is to a client, raised."""
    match outcome:
        case Done():
            return outcome
        case Failed(reason="expired"):
            raise DeadlinePassed(
                f"{outcome.detail} Send it again, or look later whether it was answered after all.",
                location=f"/results/{outcome.id}",
            )
        case Failed(reason="cancelled"):
            raise Cancelled(outcome.detail)
        case Failed(reason="wrong_size"):
            raise Overloaded(f"The model is being replaced: {outcome.detail}", retry_after_s=_RETRY_S)
        case Failed():
            raise InferenceFailed(outcome.detail)
