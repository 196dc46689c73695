"""A TCP proxy that spoils the connections going through it. Knows nothing of what they carry.

Every fault is one that networks have: what was sent may have arrived although no answer comes.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.clock import pause

_CHUNK = 1 << 20

#: SO_LINGER on, for zero seconds: closing sends a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    spoilt: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if not writer.transport.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


class Proxy:
    """Passes bytes on to a port of this machine, or to a Unix socket, until asked to lose, tear, delay, mute or cut."""

    def __init__(self, upstream: int | Path) -> None:
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._to_lose = 0
        self._to_tear = 0
        self._delay_s = 0.0
        self._mute = False
        self._cut = False

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await self._server.wait_closed()

    def reset(self) -> None:
        """Every connection ends at once."""
        for link in tuple(self._links):
            link.reset()

    async def reset_and_wait(self) -> None:
        """Every connection ends, and both ends have had the time to notice."""
        links = tuple(self._links)
        self.reset()
        while self._links.intersection(links):
            await pause(0.01)
        await pause(0.05)

    def lose(self, replies: int) -> None:
        """The next replies do not arrive: their request did, and their connection is reset."""
        self._to_lose += replies

    def tear(self, replies: int) -> None:
        """Of the next replies only the first half arrives, then their connection is reset."""
        self._to_tear += replies

    async def delay(self, seconds: float, *, by_s: float) -> None:
        """For a while every reply comes later."""
        self._delay_s = by_s
        await pause(seconds)
        self._delay_s = 0.0

    async def mute(self, seconds: float) -> None:
        """For a while requests arrive, replies vanish and no connection ends: as behind a dead router."""
        self._mute = True
        await pause(seconds)
        self._mute = False
        for link in tuple(self._links):
            if link.spoilt:
                link.reset()

    async def cut(self, seconds: float) -> None:
        """For a while nobody is connected and nobody can connect."""
        self._cut = True
        self.reset()
        await pause(seconds)
        self._cut = False

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(self._upstream, limit=_CHUNK)
        return await asyncio.open_connection("127.0.0.1", self._upstream, limit=_CHUNK)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            replies, server = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        there = asyncio.ensure_future(self._requests(reader, link))
        back = asyncio.ensure_future(self._replies(replies, link))
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        self._links.discard(link)
        there.cancel()
        back.cancel()
        link.reset()

    async def _requests(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                link.server.write(chunk)
                await link.server.drain()

    async def _replies(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if self._delay_s:
                    await pause(self._delay_s)
                if self._mute or link.spoilt:
                    link.spoilt = True  # what follows a gap would be taken for the answer to another question
                    continue
                if self._to_lose:
                    self._to_lose -= 1
                    return
                if self._to_tear:
                    self._to_tear -= 1
                    link.client.write(chunk[: len(chunk) // 2])
                    await link.client.drain()
                    return
                link.client.write(chunk)
                await link.client.drain()
