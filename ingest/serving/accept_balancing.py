"""New connections go to the worker that has the fewest. Knows nothing of what is said on them.

The system wakes all workers for a new connection, and whoever comes first takes all that wait: of 8 connections made at
once, one of two workers had all 8 in a quarter of the cases, and 32 of 32 just as often. A client that keeps its
connections then has half of the cores. So a worker that has more than another one leaves it the first chance.
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

from ingest.serving.shutdown import end_with
from ingest.serving.write_coalescing import Http

logger = logging.getLogger(__name__)

#: The variable that names the file of the Tally to the workers, which begin as new processes.
FILE: Final = "INGEST_TALLY"

#: For how long a worker leaves a new connection to those that have fewer, and how often it looks meanwhile: longer than
#: a turn of another's event loop takes, with a photograph that is decoded there.
_PATIENCE_S: Final = 0.005
_LOOK_S: Final = 0.001

#: Before the next try where the system has no file descriptor or memory left.
_EXHAUSTED_S: Final = 0.1
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: One number for each worker; nobody is there where it is the largest.
_NUMBER: Final = struct.Struct("=I")
_ABSENT: Final = 2**32 - 1


class Tally:
    """How many connections each worker has, in a file that all of them map; one is this worker's own."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._shared = mmap(self._file.fileno(), 0)
        self._own = self._take_number()
        self._count = 0
        self.change(0)

    @staticmethod
    def create(path: Path, workers: int) -> None:
        """The file, before any worker is there."""
        path.write_bytes(_NUMBER.pack(_ABSENT) * workers)

    def _take_number(self) -> int | None:
        """One that no living worker has: the system gives it back when this process ends, however it ends."""
        for offset in range(0, len(self._shared), _NUMBER.size):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except OSError:
                continue
            return offset
        return None

    def change(self, by: int) -> None:
        """So many connections more."""
        self._count += by
        self._write(self._count)

    def leave(self) -> None:
        """Take no connection any more."""
        self._write(_ABSENT)
        self._own = None

    def _write(self, number: int) -> None:
        if self._own is not None:
            _NUMBER.pack_into(self._shared, self._own, number)

    def is_ahead(self) -> bool:
        """Whether another worker has clearly fewer: many connections need not be shared out one by one."""
        fewest: int = min(number for (number,) in _NUMBER.iter_unpack(self._shared[:]))
        return self._count > fewest + fewest // 4


class Door:
    """Accepts connections, in place of the event loop's own server."""

    def __init__(self, listening: socket.socket, tally: Tally, protocol: Callable[[], asyncio.Protocol]) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._number = listening.fileno()
        self._tally = tally
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())
        end_with(self._accepting, "accepting of connections")

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on. The socket may be closed at once."""
        self._accepting.cancel()
        self._loop.remove_reader(self._number)
        self._tally.leave()

    async def wait_closed(self) -> None:
        """Return when nothing is accepted any more."""
        await asyncio.wait([self._accepting])

    async def _accept(self) -> None:
        while True:
            await self._knock()
            await self._give_way()
            try:
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                await self._loop.connect_accepted_socket(self._protocol, connection)
            except BlockingIOError:
                pass  # Another worker has it.
            except OSError as error:
                logger.debug("cannot accept a connection: %s", error)
                if error.errno in _EXHAUSTED:
                    await asyncio.sleep(_EXHAUSTED_S)

    async def _knock(self) -> None:
        """Wait for a new connection."""
        knocked = self._loop.create_future()
        self._loop.add_reader(self._number, self._answer, knocked)
        await knocked

    def _answer(self, knocked: "asyncio.Future[None]") -> None:
        self._loop.remove_reader(self._number)
        if not knocked.done():
            knocked.set_result(None)

    async def _give_way(self) -> None:
        until = self._loop.time() + _PATIENCE_S
        while self._tally.is_ahead() and self._loop.time() < until:  # noqa: ASYNC110 (other processes change it)
            await asyncio.sleep(_LOOK_S)


class Loop(uvloop.Loop):
    """uvloop's event loop for one of several workers, which are those that share FILE."""

    tally: Tally

    async def create_server(self, protocol_factory: Any, *_: Any, sock: Any = None, **_options: Any) -> Any:  # noqa: ANN401 (asyncio's)
        """A Door in place of uvloop's own server."""
        self.tally = Tally(Path(os.environ[FILE]))
        return Door(sock, self.tally, protocol_factory)


class Counted(Http):
    """A connection that counts as one."""

    loop: Loop

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (asyncio's)
        self.loop.tally.change(1)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.loop.tally.change(-1)
        super().connection_lost(exc)
