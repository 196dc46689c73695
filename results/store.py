"""The state of each request, kept under its id until it expires."""

import logging
from collections.abc import Iterable
from typing import Any, Final, Literal

from redis.asyncio import Redis

from results.outcome import UNANSWERED, VANISHED, DamagedOutcome, Failed, Outcome, decode, encode
from stream import unreadable
from stream.keys import GROUP, Partition
from stream.scripts import load

logger = logging.getLogger(__name__)

State = Outcome | Literal["queued", "cancelled", "unknown"]

#: What is wrong with a request whose outcome has changed in Redis since a consumer wrote it.
DAMAGED: Final = "The result was damaged in Redis: its checksum does not fit. Send the image again."


class Store:
    """The requests of one partition."""

    def __init__(self, redis: Redis, partition: Partition) -> None:
        self._redis = redis
        self._partition = partition
        self._cancel = load(redis, "results.scripts", "cancel")
        self._delete = load(redis, "results.scripts", "delete")
        self._state = load(redis, "results.scripts", "state")
        self._report_vanished = load(redis, "results.scripts", "report_vanished")

    async def state(self, request_id: str) -> State:
        """The outcome of a request, or how far it is; `unknown` if it expired or never was, or cannot be read.

        A request that is beyond its deadline has expired if Redis has lost its entry, or no living consumer has it.
        """
        return await self.subscribe(request_id, "")

    async def subscribe(self, request_id: str, ingest: str) -> State:
        """`state`; while it is queued, the outcome will also be announced in this ingest's reply stream."""
        return self._decode(request_id, await self._read(request_id, ingest))

    async def state_or_error(self, request_id: str) -> State:
        """`state` for an operator: raises ValueError if the value cannot be read."""
        return _state(await self._read(request_id, ""))

    async def _read(self, request_id: str, ingest: str) -> bytes | None:
        of = self._partition
        keys = [of.request(request_id), of.entries, of.counters, of.alive]
        lost, late = (encode(Failed(request_id, "expired", detail)) for detail in (VANISHED, UNANSWERED))
        value: bytes | None = await self._state(keys, [ingest, lost, late, GROUP])
        return value

    async def states(self, request_ids: Iterable[str]) -> list[State]:
        """The states of several requests, in one round trip; none of them is checked for a lost entry."""
        ids = list(request_ids)
        values: Any = await self._redis.mget([self._partition.request(request_id) for request_id in ids])
        return [self._decode(request_id, value) for request_id, value in zip(ids, values, strict=True)]

    async def put_if_absent(self, outcome: Outcome, *, ttl_s: float) -> bool:
        """Keep the outcome of a request that needs no entry; False if its id is known, and then nothing changes."""
        key = self._partition.request(outcome.id)
        return bool(await self._redis.set(key, encode(outcome), px=int(ttl_s * 1000), nx=True))

    async def report_vanished(self, request_id: str, *, ttl_s: float) -> Failed:
        """Count a request that was accepted and that Redis does not know any more, and keep that as its outcome."""
        logger.warning("Redis has lost an accepted image: request=%s", request_id)
        outcome = Failed(request_id, "expired", VANISHED)
        keys = [self._partition.request(request_id), self._partition.counters]
        await self._report_vanished(keys, [encode(outcome), int(ttl_s * 1000)])
        return outcome

    async def delete(self, request_id: str) -> bool:
        """Delete the outcome of a request that has ended; False if it is unknown or has not ended."""
        return bool(await self._delete([self._partition.request(request_id)]))

    async def cancel(self, request_id: str) -> bool:
        """Mark a request that is still queued as cancelled; False if there was nothing to cancel."""
        return bool(await self._cancel([self._partition.request(request_id), self._partition.pixels(request_id)]))

    def _decode(self, request_id: str, value: bytes | None) -> State:
        try:
            return _state(value)
        except DamagedOutcome as error:
            unreadable.skip("intact outcome", self._partition.request(request_id), error)
            return Failed(request_id, "damaged", DAMAGED)
        except ValueError as error:
            unreadable.skip("state of a request", self._partition.request(request_id), error)
            return "unknown"


def _state(value: bytes | None) -> State:
    """Raises ValueError if the value is none of ours."""
    match value:
        case None:
            return "unknown"
        case _ if value.startswith(b"queued "):
            return "queued"
        case _ if value.startswith(b"cancelled "):
            return "cancelled"
        case _:
            return decode(value)
