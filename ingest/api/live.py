"""`/live`: a snapshot a second as server-sent events. One look at Redis for all who watch, none while nobody does.

The form is that of the WHATWG HTML standard, 9.2 "Server-sent events": `data: {...}` and an empty line.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_INTERVAL_S = 1.0

Look = Callable[[], Awaitable[dict[str, Any]]]


class Live:
    """The endpoint, and the one task behind it that looks."""

    def __init__(self, look: Look, *, interval_s: float = _INTERVAL_S) -> None:
        self._look = look
        self._interval_s = interval_s
        self._watching = 0
        self._looking: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._closed = False

    async def __call__(self, _request: Request) -> Response:
        # nginx would keep the events back until its buffer is full.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self.events(), media_type="text/event-stream", headers=headers)

    async def events(self) -> AsyncIterator[bytes]:
        """Snapshots as events, until `close`. Whoever reads too slowly misses some, and holds nobody up."""
        yield b"retry: 1000\n\n"
        async with self._watched():
            while not self._closed:
                yield await asyncio.shield(self._coming())

    def close(self) -> None:
        """End all streams: the process shall end, and waits for its open answers first."""
        self._closed = True
        if self._next is not None and not self._next.done():
            self._next.set_result(b": bye\n\n")

    @property
    def watching(self) -> int:
        """How many watch."""
        return self._watching

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        self._watching += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._run())
            self._looking.add_done_callback(self._ended)
        try:
            yield
        finally:
            self._watching -= 1
            if self._watching == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def _ended(self, looking: asyncio.Task[None]) -> None:
        if not looking.cancelled() and (error := looking.exception()):
            # Our mistake: all who watch get it, the server logs it, and whoever comes back begins anew.
            self._looking = None
            self._coming().set_exception(error)

    def _coming(self) -> asyncio.Future[bytes]:
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s = loop.time()
            event = b"data: %s\n\n" % json.dumps(await self._look(), separators=(",", ":")).encode()
            coming = self._coming()
            if not coming.done():
                coming.set_result(event)
            await asyncio.sleep(max(0.0, at_s + self._interval_s - loop.time()))
