"""Where each request stands, kept under its id until it expires."""

from collections.abc import Iterable
from typing import Literal

from redis.asyncio import Redis

from results.outcome import Outcome, decode, encode
from stream.keys import Partition
from stream.scripts import load

State = Outcome | Literal["queued", "cancelled", "unknown"]


class Store:
    """The requests of one partition."""

    def __init__(self, redis: Redis, partition: Partition) -> None:
        self._redis = redis
        self._partition = partition
        self._cancel = load(redis, "results", "cancel")
        self._subscribe = load(redis, "results", "subscribe")
        self._reserve = load(redis, "results", "idempotency")

    async def state(self, request_id: str) -> State:
        """The request's outcome, or how far it is; `unknown` where it expired or never was."""
        return (await self.states([request_id]))[0]

    async def states(self, request_ids: Iterable[str]) -> list[State]:
        """The states of several requests, in one round trip."""
        values = await self._redis.mget([self._partition.request(request_id) for request_id in request_ids])
        return [_state(value) for value in values]

    async def subscribe(self, request_id: str, ingest: str) -> State:
        """`state`; while it is queued, the outcome will also be announced in this ingest's reply stream."""
        return _state(await self._subscribe([self._partition.request(request_id)], [ingest]))

    async def reserve_idempotency_key(
        self, key: str, request_id: str, fingerprint: str, *, ttl_s: float
    ) -> tuple[str, str]:
        """The request id and the fingerprint that this idempotency key was first used with."""
        keys = [self._partition.idempotency(key)]
        first_id, first_fingerprint = await self._reserve(keys, [request_id, fingerprint, int(ttl_s * 1000)])
        return first_id.decode(), first_fingerprint.decode()

    async def put_if_absent(self, outcome: Outcome, *, ttl_s: float) -> bool:
        """Keep the outcome of a request that needs no entry; False where its id is known, and nothing was changed."""
        key = self._partition.request(outcome.id)
        return bool(await self._redis.set(key, encode(outcome), px=int(ttl_s * 1000), nx=True))

    async def cancel(self, request_id: str) -> bool:
        """Mark a request that is still queued as cancelled; False where there was nothing to cancel."""
        return bool(await self._cancel([self._partition.request(request_id)]))


def _state(value: bytes | str | None) -> State:
    assert not isinstance(value, str), "connections return bytes"
    match value:
        case None:
            return "unknown"
        case _ if value.startswith(b"queued"):
            return "queued"
        case _ if value.startswith(b"cancelled"):
            return "cancelled"
        case _:
            return decode(value)
