"""Outlet: finished outcomes leave in order, and wait here while Redis is away. Knows no inference."""

import asyncio
import logging

from redis.exceptions import RedisError

from consumers.holdings import Holdings
from results.completion import Completed, Completion
from stream.connection import Backoff

logger = logging.getLogger(__name__)

#: Most outcomes in one step: a few batches. A Lua script blocks the server while it runs.
_MOST = 128


class Outlet:
    """Completes what is put in, a batch at a time, until `close`."""

    def __init__(self, completion: Completion, holdings: Holdings) -> None:
        self._completion = completion
        self._holdings = holdings
        self._queue: asyncio.Queue[Completed | None] = asyncio.Queue()
        self._watched: dict[str, asyncio.Event] = {}

    def put(self, *finished: Completed) -> None:
        for one in finished:
            self._queue.put_nowait(one)

    def close(self) -> None:
        """Nothing more will be put in: `run` ends when all is delivered."""
        self._queue.put_nowait(None)

    async def completed(self, entry_id: str) -> None:
        """Wait until this held entry is completed; returns at once where it is not held."""
        if entry_id in self._holdings.held:
            await self._watched.setdefault(entry_id, asyncio.Event()).wait()

    async def run(self) -> None:
        open_ = True
        while open_:
            batch = [await self._queue.get()]
            while len(batch) < _MOST and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            open_ = None not in batch
            finished = [one for one in batch if one is not None]
            if finished:
                await self._deliver(finished)

    async def _deliver(self, finished: list[Completed]) -> None:
        """Complete until Redis has confirmed: what was computed is kept, however long Redis is away."""
        backoff = Backoff()
        entry_ids = [one.entry_id for one in finished]
        self._holdings.leaving.update(entry_ids)
        while True:
            try:
                mine = await self._completion.complete(finished)
                break
            except RedisError as error:
                logger.log(backoff.log_level, "cannot complete %d entries, they are kept: %s", len(finished), error)
                await backoff.pause()
        self._holdings.counts.superseded += mine.count(False)
        self._holdings.drop(entry_ids)
        for entry_id in entry_ids:
            if event := self._watched.pop(entry_id, None):
                event.set()
