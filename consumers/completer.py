"""Outlet: finished outcomes leave in order, and wait here while Redis is away. Knows no inference."""

import asyncio
import logging

from redis.exceptions import RedisError

from consumers.in_flight import Holdings
from results.completion import Completed, Completion
from stream.connection.clients import Backoff

logger = logging.getLogger(__name__)

#: Most outcomes in one step: a few batches. A Lua script blocks the server while it runs.
_MOST = 128


class Outlet:
    """Completes what is put in, a batch at a time, until `close`."""

    def __init__(self, completion: Completion, holdings: Holdings) -> None:
        self._completion = completion
        self._holdings = holdings
        self._finished: list[Completed] = []
        self._news = asyncio.Event()
        self._closed = False
        self._watched: dict[str, asyncio.Event] = {}

    def put(self, *finished: Completed) -> None:
        self._finished += finished
        self._news.set()

    def close(self) -> None:
        """Nothing more will be put in: `run` ends when all is delivered."""
        self._closed = True
        self._news.set()

    async def completed(self, entry_id: str) -> None:
        """Wait until this held entry is completed; returns at once where it is not held."""
        if entry_id in self._holdings.held:
            await self._watched.setdefault(entry_id, asyncio.Event()).wait()

    async def run(self) -> None:
        while self._finished or not self._closed:
            await self._news.wait()
            self._news.clear()
            while self._finished:
                batch, self._finished = self._finished[:_MOST], self._finished[_MOST:]
                await self._deliver(batch)

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
