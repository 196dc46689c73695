"""`GET /live`: a snapshot each second as server-sent events. All clients share one read of Redis, made only for them.

The format is that of the WHATWG HTML standard, 9.2 "Server-sent events": `data: {...}` and an empty line.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ingest.openapi.operation import DocumentedResponse, Operation

_INTERVAL_S: Final = 1.0

ReadSnapshot = Callable[[], Awaitable[dict[str, Any]]]


class LiveEvents:
    """The endpoint, and the task behind it that reads snapshots while there are clients."""

    def __init__(self, read: ReadSnapshot, *, interval_s: float = _INTERVAL_S) -> None:
        self._read = read
        self._interval_s = interval_s
        self._clients = 0
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes] | None = None
        self._closed = False

    async def __call__(self, _request: Request) -> Response:
        # Without the second header nginx would hold the events back until its buffer is full.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self.events(), media_type="text/event-stream", headers=headers)

    async def events(self) -> AsyncIterator[bytes]:
        """Snapshots as events, until `close`. A slow client misses some of them, and delays no other client."""
        yield b"retry: 1000\n\n"
        async with self._subscribed():
            while not self._closed:
                yield await asyncio.shield(self._next_event())

    def close(self) -> None:
        """End all streams. The process shuts down, and waits for its open responses first."""
        self._closed = True
        if self._next is not None and not self._next.done():
            self._next.set_result(b": bye\n\n")

    @property
    def clients(self) -> int:
        """How many clients receive events."""
        return self._clients

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[None]:
        self._clients += 1
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
            self._reading.add_done_callback(self._ended)
        try:
            yield
        finally:
            self._clients -= 1
            if self._clients == 0 and self._reading is not None:
                self._reading.cancel()
                self._reading = None

    def _ended(self, reading: asyncio.Task[None]) -> None:
        if not reading.cancelled() and (error := reading.exception()):
            # Our mistake. It ends every stream, and the server logs it. The next client starts a new task.
            self._reading = None
            self._next_event().set_exception(error)

    def _next_event(self) -> asyncio.Future[bytes]:
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s = loop.time()
            event = b"data: %s\n\n" % json.dumps(await self._read(), separators=(",", ":")).encode()
            following = self._next_event()
            if not following.done():
                following.set_result(event)
            await asyncio.sleep(max(0.0, at_s + self._interval_s - loop.time()))


LIVE: Final = Operation(
    "Watch the service",
    {200: DocumentedResponse("A snapshot each second, without an end.", media_type="text/event-stream")},
)
