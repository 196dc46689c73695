"""redis-py's client, pool and connections: observed, on a shorter path, and with two faults of sending corrected.

redis-py 8 prepares telemetry for each command, locks its pool four times and checks the socket before it uses a
connection. That is 0.36 of the 2.6 million instructions that ingest executes for one image, in addition to decoding.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.resolver import ResolvingTcp, ResolvingTls
from stream.connection.rights import with_command
from stream.connection.tls_advice import with_tls_advice

T = TypeVar("T")
E = TypeVar("E", bound=RedisError)

#: Words of this size or more, in bytes, are sent without a copy.
_LARGE: Final = 6000


class ConnectionObserver(Protocol):
    """Is called about events of connections."""

    def connected(self) -> None:
        """A connection was made, the first one or a later one."""

    def failed(self, error: RedisError) -> None:
        """A connection could not be made, or a command on it ended with this error."""


def is_failure(error: RedisError) -> bool:
    """Whether an error counts as a failure: a script that must be loaded, or an ordinary refusal, does not."""
    return type(error) is not ResponseError and not isinstance(error, NoScriptError)


class NullObserver:
    """The observer of processes that have no metrics."""

    def connected(self) -> None:
        pass

    def failed(self, error: RedisError) -> None:
        pass


class ObservedConnection(AbstractConnection):
    """A mixin for redis-py's connections: says when they are made. The client says when they fail."""

    def __init__(self, *, observer: ConnectionObserver, **options: Any) -> None:  # noqa: ANN401 (redis-py's options)
        super().__init__(**options)
        self._observer = observer

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """As redis-py's, which is where every connection is made."""
        if self.is_connected:
            return
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except RedisError as error:
            self._observer.failed(error)
            raise
        self._observer.connected()


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


class Pool(ConnectionPool):
    """A limited number of connections. A command waits `wait_s` for a free one, then it raises ConnectionError."""

    def __init__(
        self,
        *,
        max_connections: int,
        wait_s: float,
        observer: ConnectionObserver,
        **options: Any,  # noqa: ANN401 (redis-py's)
    ) -> None:
        super().__init__(max_connections=max_connections, observer=observer, **options)
        self.observer = observer
        #: Whether the server has ever answered.
        self.answered = False
        self._wait_s = wait_s
        self._free = asyncio.Semaphore(max_connections)

    async def get_connection(self, *_command: Any, **_options: Any) -> AbstractConnection:  # noqa: ANN401
        """A connected connection. If the server has closed it meanwhile, that shows when it is used."""
        if self._free.locked():
            await self._await_lock()
        else:
            await self._free.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            if not connection.is_connected:
                await self.connect(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def connect(self, connection: AbstractConnection) -> None:
        """Connect; raises redis-py's errors, with advice."""
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise self.advised(error) from error

    def advised(self, error: E) -> E:
        """The error, with what to do if the server may not speak TLS as its URL says."""
        if self.answered:
            return error
        return with_tls_advice(error, is_tls=issubclass(self.connection_class, SSLConnection))

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


#: Encoders of the common types; `encode` handles all others.
_ENCODERS: Final[dict[Any, Callable[[Any], bytes]]] = {str: str.encode, bytes: bytes, int: b"%d".__mod__}


class Client(Redis):
    """Sends commands again if their connection was closed, as often as the pool's `retry` says."""

    async def execute_command(self, *args: Any, may_be_refused: bool = False, **options: Any) -> Any:  # noqa: ANN401
        """As redis-py's. If the command `may_be_refused`, its user's lack of rights counts as no failure."""

        def read(connection: Connection) -> Awaitable[Any]:
            return self.parse_response(connection, args[0], **options)

        return await self._exchange([args], read, may_be_refused=may_be_refused)

    async def execute_together(self, *commands: Sequence[Any]) -> list[Any]:
        """Send the commands in one write on one connection; returns their replies as the server sent them, with its
        errors among them."""
        return await self._exchange(commands, lambda connection: self._replies(connection, commands))

    async def _replies(self, connection: Connection, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                self._pool.observer.failed(error)
                replies.append(with_command(error, command))
        return replies

    @property
    def _pool(self) -> Pool:
        assert isinstance(self.connection_pool, Pool)
        return self.connection_pool

    async def _exchange(
        self,
        commands: Sequence[Sequence[Any]],
        read: Callable[[Connection], Awaitable[T]],
        *,
        may_be_refused: bool = False,
    ) -> T:
        """Send the commands in one write, and read their replies; again if the connection was closed."""
        pool = self._pool
        connection: Any = await pool.get_connection()
        encode = connection.encoder.encode
        packed = [part for command in commands for part in pack(*command, encode=encode)]
        attempts = connection.retry.get_retries()
        try:
            while True:
                if not connection.is_connected:
                    await pool.connect(connection)
                try:
                    await connection.send_packed_command(packed, check_health=False)
                    reply = await read(connection)
                except RedisError as error:
                    if not (may_be_refused and isinstance(error, NoPermissionError)):
                        pool.observer.failed(error)
                    if not isinstance(error, RedisConnectionError):
                        raise with_command(error, commands[0]) from None
                    await connection.disconnect()
                    if attempts == 0:
                        raise pool.advised(error) from None
                    attempts -= 1
                else:
                    pool.answered = True
                    return reply
        finally:
            await pool.release(connection)


def pack(command: str, *words: Any, encode: Callable[[Any], bytes]) -> list[bytes]:  # noqa: ANN401 (whatever redis-py takes)
    """The command in RESP, as redis-py packs it, in a third of the time; large words are not copied."""
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
