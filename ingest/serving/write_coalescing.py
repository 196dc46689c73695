"""Sends the head and the body of a short HTTP response in one packet.

Uvicorn writes the head and the body one after the other, and uvloop passes each to the kernel at once. That makes two
packets, and the work for both here and at the client, for what fits into one.
"""

import asyncio
from typing import Any, Final

from ingest.serving.http_protocol import BoundedHttpProtocol

_HEAD: Final = b"HTTP/1.1 "


class CoalescingTransport:
    """Wraps a transport. The head of a response waits for the rest of the same iteration of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (any attribute of a transport)
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As the transport's."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._send_head)
            return
        self._transport.write(data)

    def close(self) -> None:
        """As the transport's: sends what was written first."""
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            self.write(b"")


class HttpProtocol(BoundedHttpProtocol):
    """One HTTP/1.1 connection whose short responses leave in one packet."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (asyncio's)
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
