"""Reads the reply stream of one ingest process, and resolves the futures of its requests.

An ingest expects the id of a request here before it sends the entry, which names the reply stream. The consumer's
results/scripts/complete.lua adds the outcome to that stream. It has the id, and `Replies` sets the result of the future
under it.

An entry of the stream belongs to one batch: its fields are numbered, their values are outcomes.
"""

import asyncio
import logging
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from results.outcome import Done, Failed, Outcome, decode
from results.store import Store
from stream import unreadable
from stream.connection.client import Client
from stream.connection.clients import BLOCK_S, Backoff
from stream.keys import Partition

logger = logging.getLogger(__name__)

#: Entries read at once.
_COUNT: Final = 1000

#: Redis may lose what it accepted in the last seconds before it ended. Requests are remembered for longer than that,
#: and at most so many of them.
_REMEMBERED_S: Final = 60.0
_MOST_REMEMBERED: Final = 10_000


class Replies:
    """Futures of outcomes for the requests that this process admitted to one partition.

    `reader` makes only the blocking reads.
    """

    def __init__(self, reader: Redis, store: Store, partition: Partition, *, ingest: str, result_ttl_s: float) -> None:
        assert isinstance(reader, Client)
        self._reader = reader
        self._store = store
        self._result_ttl_s = result_ttl_s
        # When each request was accepted, in seconds of the loop's clock, in that order.
        self._accepted: dict[str, float] = {}
        self._stream = partition.replies(ingest)
        self._last_id = "0"
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}

    def expect(self, request_id: str) -> asyncio.Future[Outcome]:
        """A future for the outcome; call it before the request is admitted."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_id, []).append(future)
        future.add_done_callback(lambda _: self._forget(request_id, future))
        return future

    def accepted(self, request_id: str) -> None:
        """Redis has confirmed this request: if Redis does not know it after an outage, it has lost it."""
        now_s = asyncio.get_running_loop().time()
        self._accepted[request_id] = now_s
        oldest = next(iter(self._accepted))
        if len(self._accepted) > _MOST_REMEMBERED or self._accepted[oldest] < now_s - _REMEMBERED_S:
            del self._accepted[oldest]

    def _forget(self, request_id: str, future: asyncio.Future[Outcome]) -> None:
        if not future.cancelled():
            self._accepted.pop(request_id, None)
        waiting = self._waiting[request_id]
        waiting.remove(future)
        if not waiting:
            del self._waiting[request_id]

    async def run(self) -> None:
        """Read replies until cancelled; survives any outage of Redis."""
        backoff: Backoff | None = None
        while True:
            try:
                await self._read()
                backoff = None
            except RedisError as error:
                backoff = backoff or Backoff()
                logger.log(backoff.next_log_level(error), "cannot read replies: %s", error)
                await backoff.pause()
                await self._catch_up(backoff)

    async def _read(self) -> None:
        bounds = ("COUNT", _COUNT, "BLOCK", int(BLOCK_S * 1000))
        (reply,) = await self._reader.execute_together(("XREAD", *bounds, "STREAMS", self._stream, self._last_id))
        if isinstance(reply, RedisError):
            raise reply
        for _, entries in reply or ():
            for entry_id, fields in entries:
                self._last_id = entry_id.decode()
                taken = [self._take(raw) for raw in fields[1::2]]
                if not all(taken):
                    await self._resolve_stored()

    def _take(self, raw: bytes) -> bool:
        """Resolve the futures of one outcome; False if it cannot be read."""
        try:
            self._resolve(decode(raw))
        except ValueError as error:
            unreadable.skip("outcome", self._stream, error)
            return False
        return True

    async def _catch_up(self, backoff: Backoff) -> None:
        """After an outage: find the outcomes that arrived meanwhile, and what Redis has lost.

        The stream is read from its beginning. A server that lost its data counts entry ids from a new beginning, and
        the last id seen could lie ahead.
        """
        while True:
            try:
                await self._resolve_stored()
                await self._report_vanished()
            except RedisError:
                await backoff.pause()
                continue
            self._last_id = "0"
            return

    async def _resolve_stored(self) -> None:
        """Look for the outcomes of all waiting requests under their ids."""
        waiting = list(self._waiting)
        for state in await self._store.states(waiting) if waiting else ():
            if isinstance(state, Done | Failed):
                self._resolve(state)

    def _resolve(self, outcome: Outcome) -> None:
        for future in self._waiting.get(outcome.id, ()):
            if not future.done():
                future.set_result(outcome)

    async def _report_vanished(self) -> None:
        """Count the requests that Redis has accepted and does not know any more, and end the waits for them."""
        since_s = asyncio.get_running_loop().time() - min(_REMEMBERED_S, self._result_ttl_s)
        accepted = [request_id for request_id, accepted_s in self._accepted.items() if accepted_s > since_s]
        states = await self._store.states(accepted) if accepted else ()
        for request_id, state in zip(accepted, states, strict=True):
            if state == "unknown":
                self._resolve(await self._store.report_vanished(request_id, ttl_s=self._result_ttl_s))
                self._accepted.pop(request_id, None)
