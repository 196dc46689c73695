"""redis-py's asynchronous connections, with two faults of their sending corrected."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.observer import ObservedConnection
from stream.connection.resolver import ResolvingTcp, ResolvingTls


class FailFastConnection(AbstractConnection):
    """A connection whose sending notices two things that redis-py's own does not.

    One that was closed while it lay idle is a lost connection on every event loop: uvloop raises RuntimeError where
    it is written to. A task that is cancelled while it sends is cancelled: redis-py bounds the time with
    `asyncio.wait_for`, which before Python 3.12 drops a cancellation that comes just when the command has been sent
    (https://github.com/python/cpython/issues/86296), and makes a task of each command.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        assert self._writer is not None
        try:
            self._writer.writelines(_chunks(command))
            # The system has nearly always taken all of it already.
            if self._writer.transport.get_write_buffer_size():
                async with asyncio.timeout(self.socket_timeout):
                    await self._writer.drain()
        except TimeoutError as error:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to the socket") from error
        except (OSError, RuntimeError) as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection was closed: {error}") from error
        except BaseException:
            # Part of the command may have been sent: nothing can follow it on this connection.
            await self.disconnect(nowait=True)
            raise


def _chunks(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    match command:
        case str():
            return [command.encode()]
        case bytes():
            return [command]
        case _:
            return command


class _Tcp(ObservedConnection, FailFastConnection, Connection):
    pass


class _Tls(ObservedConnection, FailFastConnection, SSLConnection):
    pass


class _Unix(ObservedConnection, FailFastConnection, UnixDomainSocketConnection):
    pass


class _ResolvingTcp(ObservedConnection, FailFastConnection, ResolvingTcp):
    pass


class _ResolvingTls(ObservedConnection, FailFastConnection, ResolvingTls):
    pass


#: Our class for each of redis-py's.
CONNECTIONS: Final[dict[type[Any], type[Any]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}

#: The same for connections that resolve their server each time they are made.
RESOLVING_CONNECTIONS: Final[dict[type[Any], type[Any]]] = {Connection: _ResolvingTcp, SSLConnection: _ResolvingTls}
