"""Reads the reply stream of one ingest process, and resolves the futures of its requests.

An entry of the stream belongs to one batch: its fields are numbered, their values are outcomes.
"""

import asyncio
import logging
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from results.outcome import Done, Failed, Outcome, decode
from results.store import Store
from stream import unreadable
from stream.connection.clients import BLOCK_S, Backoff
from stream.keys import Partition

logger = logging.getLogger(__name__)

#: Entries read at once.
_COUNT = 1000


class Replies:
    """Futures of outcomes for the requests that this process admitted to one partition.

    `reader` makes only the blocking reads.
    """

    def __init__(self, reader: Redis, store: Store, partition: Partition, *, ingest: str) -> None:
        self._reader = reader
        self._store = store
        self._stream = partition.replies(ingest)
        self._last_id = "0"
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}

    def expect(self, request_id: str) -> asyncio.Future[Outcome]:
        """A future for the outcome; call it before the request is admitted."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_id, []).append(future)
        future.add_done_callback(lambda _: self._forget(request_id, future))
        return future

    def _forget(self, request_id: str, future: asyncio.Future[Outcome]) -> None:
        waiting = self._waiting[request_id]
        waiting.remove(future)
        if not waiting:
            del self._waiting[request_id]

    async def run(self) -> None:
        """Read replies until cancelled; survives any outage of Redis."""
        backoff = Backoff()
        while True:
            try:
                await self._read()
                backoff.reset()
            except RedisError as error:
                logger.log(backoff.log_level, "cannot read replies: %s", error)
                await backoff.pause()
                await self._catch_up(backoff)

    async def _read(self) -> None:
        reply: Any = await self._reader.xread({self._stream: self._last_id}, count=_COUNT, block=int(BLOCK_S * 1000))
        for _, entries in reply or ():
            for entry_id, fields in entries:
                self._last_id = entry_id.decode()
                taken = [self._take(raw) for raw in fields.values()]
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
        """After an outage: find the outcomes that arrived meanwhile, and read the stream from its beginning.

        A server that lost its data counts entry ids from a new beginning, and the last id seen could lie ahead.
        """
        while True:
            try:
                await self._resolve_stored()
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
