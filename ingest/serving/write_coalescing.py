"""HTTP/1.1 whose short answers leave in one piece. Knows nothing of what is said in them.

Uvicorn writes an answer's head and its body one after the other, and uvloop gives each to the system at once: two
packets, with the system's work for each here and at the client, for what fits into one.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD: Final = b"HTTP/1.1 "


class Joining:
    """A connection's transport; the head of an answer waits for what is written in the same turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever a transport has)
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
        """As the transport's: what was written is sent before."""
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            self.write(b"")


class Http(HttpToolsProtocol):
    """One connection of a client."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (asyncio's)
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]
