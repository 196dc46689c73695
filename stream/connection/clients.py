"""Makes the clients and connections of Redis, and says which of its errors are temporary.

A client of `connect` sends a command again, once, if its connection was closed: after a restart of Redis every pooled
connection is stale. If only the reply was lost, the command then runs twice. All short commands of Sluice allow that:
admission knows its ids, and completion changes nothing the second time. A blocking read is never repeated.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import redis
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection as BlockingConnection
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as BlockingRetry

from stream.connection.client import CONNECTIONS, RESOLVING_CONNECTIONS, Client, ConnectionObserver, NullObserver, Pool
from stream.connection.resolver import ClusterResolver, Resolve, SentinelResolver
from stream.host.private_folder import make_private, socket_path
from stream.keys import MODELS, Partition
from stream.redis_url import RedisUrl
from stream.settings import RedisSettings

logger = logging.getLogger(__name__)

#: How long one blocking read waits in Redis: only bounds how late a reader notices that it must end. Four of them a
#: second cost an idle consumer 3.6 ms of CPU, one of them 3.4.
BLOCK_S = 0.25

#: Connections of one process for short commands. Asyncio needs few: a command takes a fraction of a millisecond.
_POOL_SIZE = 32

#: Bytes read from the socket at once. A full batch is 4.8 MB; redis-py's 64 KiB would need 74 reads.
_READ_SIZE = 1 << 20

#: Errors that end without a change of Sluice's settings; LOADING is a ConnectionError in redis-py.
_TEMPORARY = (
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    ClusterDownError,
)

#: Beginnings of further such errors, for which redis-py has no class. A group that is gone is made again.
_TEMPORARY_CODES = ("MISCONF", "NOREPLICAS", "BUSY ", "UNBLOCKED", "WRONGTYPE", "NOGROUP")


#: redis-py's connections without an event loop, by those with one.
_BLOCKING: dict[type[Any], Callable[..., BlockingConnection]] = {
    Connection: redis.Connection,
    SSLConnection: redis.SSLConnection,
    UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
}


def url(settings: RedisSettings) -> str:
    """Where Redis is: the configured URL, or the embedded server's socket. Raises UnusableFolder or OSError."""
    if settings.redis_url:
        return settings.redis_url
    path = socket_path(settings.data_dir)
    make_private(path.parent)  # Made now, no other user can make it before the server does.
    return f"unix://{quote(str(path))}"


def connect(
    settings: RedisSettings, observer: ConnectionObserver | None = None, partition: Partition | None = None
) -> Redis:
    """A client for short commands; it waits at most `redis_timeout_s` for each reply.

    It is for the keys of this partition, or for keys that belong to no partition: a Cluster has them on different
    servers.
    """
    once = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    wait_s = settings.redis_timeout_s
    return _client(settings, partition, reply_timeout_s=wait_s, connections=_POOL_SIZE, retry=once, observer=observer)


def connect_reader(
    settings: RedisSettings, observer: ConnectionObserver | None = None, partition: Partition | None = None
) -> Redis:
    """A client with one connection, for blocking reads of at most `BLOCK_S`; for its keys, see `connect`."""
    never = Retry(NoBackoff(), 0)
    wait_s = BLOCK_S + settings.redis_timeout_s
    return _client(settings, partition, reply_timeout_s=wait_s, connections=1, retry=never, observer=observer)


class Connections:
    """The clients of one process for short commands: `shared` for keys of no partition, and one for each partition.

    Without a Cluster they are all the same client.
    """

    def __init__(self, settings: RedisSettings, observer: ConnectionObserver | None = None) -> None:
        self._settings = settings
        self._observer = observer
        self._apart = RedisUrl.parse(url(settings)).kind == "cluster"
        self._clients: dict[Partition, Redis] = {}
        self.shared = connect(settings, observer)

    def client_for(self, partition: Partition) -> Redis:
        """The client for this partition's keys."""
        if not self._apart:
            return self.shared
        if partition not in self._clients:
            self._clients[partition] = connect(self._settings, self._observer, partition)
        return self._clients[partition]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in (self.shared, *self._clients.values()):
            await client.aclose()


def connect_blocking(
    settings: RedisSettings, partition: Partition | None = None
) -> tuple[BlockingConnection, Resolve | None]:
    """A connection without an event loop, not connected yet, for blocking reads of at most `BLOCK_S` in a thread.

    With it comes what resolves its server, if that can change.
    """
    access, kind, resolve = _access(settings, partition)
    bounds = _bounds(settings, BLOCK_S + settings.redis_timeout_s)
    retry = BlockingRetry(NoBackoff(), 0)
    return _BLOCKING[kind](retry=retry, socket_read_size=_READ_SIZE, **bounds, **access), resolve


def _client(
    settings: RedisSettings,
    partition: Partition | None,
    *,
    reply_timeout_s: float,
    connections: int,
    retry: Retry,
    observer: ConnectionObserver | None,
) -> Redis:
    access, kind, resolve = _access(settings, partition)
    if resolve:
        access |= {"resolve": resolve}
    pool = Pool(
        connection_class=(RESOLVING_CONNECTIONS if resolve else CONNECTIONS)[kind],
        max_connections=connections,
        wait_s=reply_timeout_s,
        socket_read_size=_READ_SIZE,
        retry=retry,
        observer=observer or NullObserver(),
        **_bounds(settings, reply_timeout_s),
        **access,
    )
    return Client.from_pool(pool)


def _access(settings: RedisSettings, partition: Partition | None) -> tuple[dict[str, Any], type[Any], Resolve | None]:
    """The options of the server, redis-py's asynchronous class for it, and what resolves it, if anything."""
    address = RedisUrl.parse(url(settings))
    access = _options(address.server_url, settings.redis_password_file, settings.redis_ca_file)
    resolve = _resolve(settings, address, partition, access)
    return access, access.pop("connection_class", Connection), resolve


def _bounds(settings: RedisSettings, reply_timeout_s: float) -> dict[str, Any]:
    """Options that all connections share."""
    return {
        "socket_timeout": reply_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 2,
        # Redis 7.0 does not know CLIENT SETINFO, so each connection would begin with two errors.
        "driver_info": None,
    }


def _resolve(
    settings: RedisSettings, address: RedisUrl, partition: Partition | None, access: dict[str, Any]
) -> Resolve | None:
    """How connections resolve their server, where it is not always the same."""
    match address.kind:
        case "cluster":
            slot = key_slot((partition.entries if partition else MODELS).encode())
            return ClusterResolver(address.addresses, slot, dict(access)).resolve
        case "sentinel":
            options = _options(address.sentinel, settings.redis_sentinel_password_file, settings.redis_ca_file)
            return SentinelResolver(address.addresses, address.service, options).resolve
        case _:
            return None


def _options(address: str, password_file: str, ca_file: str) -> dict[str, Any]:
    """The options of a URL, with the password and the certificates from files unless the URL has its own."""
    given = {}
    if password_file:
        given["password"] = Path(password_file).read_text().strip()
    if ca_file and address.startswith("rediss"):
        given["ssl_ca_certs"] = ca_file
    return {**given, **parse_url(address)}


def is_temporary(error: RedisError) -> bool:
    """Whether Redis is only unavailable, loading, full, read-only or failing over, or a key is damaged or gone."""
    return isinstance(error, _TEMPORARY) or (
        isinstance(error, ResponseError) and str(error).startswith(_TEMPORARY_CODES)
    )


#: Failures in a row while a process starts that are no outage: Redis may start with it, and has about three seconds.
AT_START: Final = 8


class Backoff:
    """Growing pauses between attempts, with jitter so that processes do not retry at the same moment.

    `quiet`: how many failures in a row are no outage, before the first success.
    """

    def __init__(self, *, first_s: float = 0.05, longest_s: float = 1.0, quiet: int = 0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._quiet = quiet
        self._attempts = 0
        self._login_refused = False

    def reset(self) -> bool:
        """After a success. Whether it ends an outage that was logged."""
        logged = self._attempts > self._quiet or self._login_refused
        self._attempts = self._quiet = 0
        self._login_refused = False
        return logged

    def next_log_level(self, error: BaseException) -> int:
        """Of this failure: WARNING for the first in a row that is not quiet, else DEBUG. An outage is one event.

        WARNING once more, and no more after that, if Redis then refuses the login: the outage has ended, and a password
        is wrong.
        """
        first = self._attempts == self._quiet
        if isinstance(error, AuthenticationError) and not self._login_refused:
            self._login_refused = first = True
        return logging.WARNING if first else logging.DEBUG

    async def wait_for_redis(self, error: RedisError) -> None:
        """Log an error that ends without a change of the settings, and pause; raises any other."""
        if not is_temporary(error):
            raise error
        logger.log(self.next_log_level(error), "waiting for Redis: %s", error)
        await self.pause()

    async def pause(self) -> None:
        """Sleep a random time up to a bound that doubles with each attempt."""
        bound = min(self._longest_s, self._first_s * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 16)
        await asyncio.sleep(bound * random.uniform(0.5, 1.0))  # noqa: S311 (not for secrets)
