"""redis-py's client and pool with what a command of Sluice's needs, and nothing for those who are not there.

Redis-py 8 prepares telemetry for each command, locks its pool four times and looks at a connection's socket before it
is used: 0.36 of the 2.6 million instructions that an ingest executes for one image, apart from decoding it. Here a
command takes a connection, is sent, and its reply is read. Knows no command and no address.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

#: Bytes from which on a word of a command is sent from where it is.
_LARGE: Final = 6000


class Pool(ConnectionPool):
    """At most so many connections; who finds none waits `wait_s`, then redis-py's ConnectionError is raised."""

    def __init__(self, *, max_connections: int, wait_s: float, **options: Any) -> None:  # noqa: ANN401 (redis-py's)
        super().__init__(max_connections=max_connections, **options)
        self._wait_s = wait_s
        self._free = asyncio.Semaphore(max_connections)

    async def get_connection(self, *_command: Any, **_options: Any) -> AbstractConnection:  # noqa: ANN401
        """A connection that is connected, as far as is known: one that was closed meanwhile shows when it is used."""
        if self._free.locked():
            await self._await_lock()
        else:
            await self._free.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            if not connection.is_connected:
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _await_lock(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise RedisConnectionError("No connection available.") from error

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._free.release()


#: What `encode` makes of these, without its questions.
_ENCODERS: Final[dict[Any, Callable[[Any], bytes]]] = {str: str.encode, bytes: bytes, int: b"%d".__mod__}


class Client(Redis):
    """A command is sent again where its connection turned out to be closed, as often as the pool's `retry` says."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (any command, any reply)
        """As redis-py's."""
        pool = self.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        attempts = connection.retry.get_retries()
        try:
            while True:
                try:
                    await connection.send_packed_command(pack(*args, encode=connection.encoder.encode))
                    return await self.parse_response(connection, args[0], **options)
                except RedisConnectionError:
                    await connection.disconnect()
                    if attempts == 0:
                        raise
                    attempts -= 1
        finally:
            await pool.release(connection)


def pack(command: str, *words: Any, encode: Callable[[Any], bytes]) -> list[bytes]:  # noqa: ANN401 (whatever redis-py takes)
    """The command in RESP, as redis-py packs it, in a third of the time; what is large is not copied."""
    words = (*command.split(), *words)
    packed: list[bytes] = []
    small = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = _ENCODERS.get(type(word), encode)(word)
        small.append(b"$%d\r\n" % len(raw))
        if len(raw) > _LARGE:
            packed += (b"".join(small), raw)
            small = [b"\r\n"]
        else:
            small += (raw, b"\r\n")
    packed.append(b"".join(small))
    return packed
