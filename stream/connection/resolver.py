"""Finds the primary of a Cluster's slot, or of a service that Sentinels watch.

Each connection asks again when it is made. That is rare, and happens mostly because something has moved.

redis-py's client for a Cluster is not used: it sends ASKING on another connection of its pool than the command that it
is for, closes the connections to all nodes where one slot is not served, and its pools have no WAIT that is sure to
follow its write. All that Sluice ever asks of one client lies in one slot, so a client whose connections resolve their
node does.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, ReadOnlyError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.redis_url import Address

Resolve = Callable[[], Awaitable[Address]]

#: Longest wait for one node to say where a slot is. Then another is asked: a node that hangs must not block it.
_ASK_S = 0.5

#: Options of a connection for one question.
_BRIEF: Final[dict[str, Any]] = {
    "socket_timeout": _ASK_S,
    "socket_connect_timeout": _ASK_S,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "driver_info": None,
}


class ClusterResolver:
    """The primary of one slot. Any node knows it; the nodes that it names are asked the next time."""

    def __init__(self, nodes: tuple[Address, ...], slot: int, options: dict[str, Any]) -> None:
        self._seeds = nodes
        self._nodes = nodes
        self._slot = slot
        self._options = options

    async def resolve(self) -> Address:
        """Raises ConnectionError, with the last error, if no node says."""
        said: object = "it is served by nobody"
        for node in self._nodes:
            try:
                rows = await self._ask(node)
            except (RedisError, OSError) as error:
                said = error
                continue
            # The one that answered comes first the next time.
            self._nodes = tuple(dict.fromkeys((node, *_nodes(rows, node), *self._seeds)))
            if primary := _primary(rows, self._slot, node):
                return primary
        self._nodes = (*self._nodes[1:], *self._nodes[:1])
        raise RedisConnectionError(f"no node of the cluster says who has slot {self._slot}: {said}")

    async def _ask(self, node: Address) -> list[Any]:
        async with _asking(node, self._options) as asked:
            rows: list[Any] = await asked.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            return rows


def _nodes(rows: list[Any], asked: Address) -> list[Address]:
    return [_of(server, asked) for _, _, *servers in rows for server in servers]


def _primary(rows: list[Any], slot: int, asked: Address) -> Address | None:
    return next((_of(servers[0], asked) for first, last, *servers in rows if first <= slot <= last), None)


def _of(server: list[Any], asked: Address) -> Address:
    # A node that does not know its own address leaves it out: it is the one that was asked.
    return (server[0] or b"").decode() or asked[0], int(server[1])


class SentinelResolver:
    """The primary of one service, as the Sentinels have agreed."""

    def __init__(self, sentinels: tuple[Address, ...], service: str, options: dict[str, Any]) -> None:
        self._sentinels = sentinels
        self._service = service
        self._options = options

    async def resolve(self) -> Address:
        """Raises ConnectionError, with the last error, if no Sentinel knows a primary that lives."""
        said: object = "none knows one that lives"
        for sentinel in self._sentinels:
            try:
                async with _asking(sentinel, self._options) as asked:
                    state: Any = await asked.sentinel_master(self._service)
            except (RedisError, OSError) as error:
                said = error
                continue
            if state["is_master"] and not (state["is_sdown"] or state["is_odown"]):
                # The one that answered comes first the next time.
                self._sentinels = tuple(dict.fromkeys((sentinel, *self._sentinels)))
                return str(state["ip"]), int(state["port"])
        raise RedisConnectionError(f"no Sentinel says who is the primary of {self._service}: {said}")


def _asking(server: Address, options: dict[str, Any]) -> Redis:
    host, port = server
    return Redis.from_pool(ConnectionPool(**{**options, **_BRIEF, "host": host, "port": port}))


#: Errors of a server that is not the right one; MOVED is an AskError in redis-py.
REDIRECTS: Final = (AskError, ReadOnlyError)


def translate(error: AskError | ReadOnlyError) -> RedisError:
    """What the error means to the caller: the server has done nothing."""
    if isinstance(error, MovedError | ReadOnlyError):
        # Another connection resolves the present primary: for a client it is as if this one was lost.
        return RedisConnectionError(f"no primary of this any more: {error}")
    # The slot moves, key by key, and scripts need all their keys on one server: it takes a moment.
    return TryAgainError(str(error))


class ResolvingConnection(AbstractConnection):
    """A mixin for redis-py's connections: each time it is made, it connects to what `resolve` returns."""

    host: str
    port: int

    def __init__(self, *, resolve: Resolve, **options: Any) -> None:  # noqa: ANN401 (redis-py's options)
        super().__init__(**options)
        self._resolve = resolve
        self._redirect: Address | None = None

    async def _connect(self) -> None:
        # The node that redirects knows more than the others, which may not know of the move yet. Once.
        redirect, self._redirect = self._redirect, None
        self.host, self.port = redirect or await self._resolve()
        await super()._connect()  # type: ignore[no-untyped-call,safe-super]

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (any reply of Redis)
        """As redis-py's."""
        try:
            return await super().read_response(*args, **options)
        except REDIRECTS as error:
            if isinstance(error, MovedError):
                self._redirect = (error.host or self.host, error.port)
            translated = translate(error)
            if isinstance(translated, RedisConnectionError):
                await self.disconnect()
            raise translated from error


class ResolvingTcp(ResolvingConnection, Connection):
    """A plain connection."""


class ResolvingTls(ResolvingConnection, SSLConnection):
    """A connection with TLS."""
