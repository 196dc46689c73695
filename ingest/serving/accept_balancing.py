"""Gives a new connection to the worker that has the fewest.

The kernel wakes all workers for a new connection, and the first one to wake accepts all that wait. Of 8 connections
made at once, one of two workers got all 8 in a quarter of the cases. It got all 32 of 32 just as often. A client that
keeps its connections open then uses half of the cores. So a worker with more connections gives the others a moment to
accept first.
"""

import asyncio
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any, Final

import uvloop

from ingest.serving.http_protocol import HttpProtocol
from ingest.serving.shutdown import exit_on_failure

logger = logging.getLogger(__name__)

#: The environment variable that gives the workers, which start as new processes, the path of the ConnectionCounts.
PATH_VARIABLE: Final = "INGEST_CONNECTION_COUNTS"

#: How long a worker leaves a new connection to workers with fewer, and how often it looks meanwhile, in seconds. Longer
#: than one iteration of another worker's event loop that decodes an image.
_DEFER_S: Final = 0.005
_POLL_S: Final = 0.001

#: Seconds until the next try if the system has no file descriptor or memory left.
_EXHAUSTED_S: Final = 0.1
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: One number per worker. The largest number means that there is no such worker.
_NUMBER: Final = struct.Struct("=I")
_ABSENT: Final = 2**32 - 1


class ConnectionCounts:
    """How many connections each worker has, in a file that all of them map. One number is this worker's own."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._shared = mmap(self._file.fileno(), 0)
        self._own = self._take_number()
        self._count = 0
        self.change(0)

    @staticmethod
    def create(path: Path, workers: int) -> None:
        """Write the file, before any worker starts."""
        path.write_bytes(_NUMBER.pack(_ABSENT) * workers)

    def _take_number(self) -> int | None:
        """Lock a number that no living worker has. The kernel releases it when this process ends, however it ends."""
        for offset in range(0, len(self._shared), _NUMBER.size):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except OSError:
                continue
            return offset
        return None

    def change(self, by: int) -> None:
        """Add to this worker's number."""
        self._count += by
        self._write(self._count)

    def leave(self) -> None:
        """Accept no more connections."""
        self._write(_ABSENT)
        self._own = None

    def _write(self, number: int) -> None:
        if self._own is not None:
            _NUMBER.pack_into(self._shared, self._own, number)

    def is_ahead(self) -> bool:
        """Whether another worker has clearly fewer. Many connections need not be shared one by one."""
        fewest: int = min(number for (number,) in _NUMBER.iter_unpack(self._shared[:]))
        return self._count > fewest + fewest // 4


class BalancedServer:
    """Accepts connections, in place of the event loop's own server."""

    def __init__(
        self, listening: socket.socket, counts: ConnectionCounts, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._descriptor = listening.fileno()
        self._counts = counts
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())
        exit_on_failure(self._accepting, "accepting of connections")

    def close(self) -> None:
        """Accept no more connections. Those accepted continue. The socket may be closed at once."""
        self._accepting.cancel()
        self._loop.remove_reader(self._descriptor)
        self._counts.leave()

    async def wait_closed(self) -> None:
        """Wait until no more connections are accepted."""
        await asyncio.wait([self._accepting])

    async def _accept(self) -> None:
        while True:
            await self._wait_readable()
            await self._defer()
            try:
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                await self._loop.connect_accepted_socket(self._protocol, connection)
            except BlockingIOError:
                pass  # Another worker has accepted it.
            except OSError as error:
                logger.debug("cannot accept a connection: %s", error)
                if error.errno in _EXHAUSTED:
                    await asyncio.sleep(_EXHAUSTED_S)

    async def _wait_readable(self) -> None:
        """Wait for a new connection."""
        readable = self._loop.create_future()
        self._loop.add_reader(self._descriptor, self._on_readable, readable)
        await readable

    def _on_readable(self, readable: "asyncio.Future[None]") -> None:
        self._loop.remove_reader(self._descriptor)
        if not readable.done():
            readable.set_result(None)

    async def _defer(self) -> None:
        until = self._loop.time() + _DEFER_S
        while self._counts.is_ahead() and self._loop.time() < until:  # noqa: ASYNC110 (other processes change it)
            await asyncio.sleep(_POLL_S)


class BalancingLoop(uvloop.Loop):
    """The event loop of one of several workers."""

    counts: ConnectionCounts

    async def create_server(self, protocol_factory: Any, *_: Any, sock: Any = None, **_options: Any) -> Any:  # noqa: ANN401 (asyncio's)
        """A BalancedServer in place of uvloop's own server."""
        self.counts = ConnectionCounts(Path(os.environ[PATH_VARIABLE]))
        return BalancedServer(sock, self.counts, protocol_factory)


class CountedProtocol(HttpProtocol):
    """One connection that counts for its worker."""

    loop: BalancingLoop

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (asyncio's)
        self.loop.counts.change(1)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.loop.counts.change(-1)
        super().connection_lost(exc)
