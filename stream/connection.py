"""Connections to Redis with every value stated, and which of its errors pass by themselves. Knows no key.

A command is sent again only where its connection turned out to be closed, once, and only by `connect`: after a
restart of Redis every pooled connection is stale. A reply that was lost then means that a command runs twice, which
all of Sluice's short commands bear: admission knows its ids, completion is fenced. A blocking read is never repeated.
"""

import asyncio
import logging
import random
from urllib.parse import quote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.embedded import socket_path
from stream.settings import Settings

#: How long one blocking read waits in Redis. Only bounds how late a reader notices that it shall end.
BLOCK_S = 1.0

#: Connections of one process for short commands. Asyncio needs few: a command takes a fraction of a millisecond.
_POOL_SIZE = 32

#: Bytes taken from the socket at once. A full batch is 4.8 MB; redis-py's 64 KiB would take 74 turns of the loop.
_READ_SIZE = 1 << 20

#: Errors that pass without anybody changing a setting of Sluice; LOADING is a ConnectionError in redis-py.
_PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    ClusterDownError,
)

#: Beginnings of further such errors, for which redis-py has no class.
_PASSING_CODES = ("MISCONF", "NOREPLICAS", "BUSY ")


def url(settings: Settings) -> str:
    """Where Redis is: the configured URL, or the embedded server's socket."""
    return settings.redis_url or f"unix://{quote(str(socket_path(settings.data_dir)))}"


def connect(settings: Settings) -> Redis:
    """A client for short commands; each answer is awaited at most `redis_timeout_s`."""
    once = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return _client(settings, reply_timeout_s=settings.redis_timeout_s, connections=_POOL_SIZE, retry=once)


def connect_reader(settings: Settings) -> Redis:
    """A client with one connection, for blocking reads of at most `BLOCK_S`."""
    never = Retry(NoBackoff(), 0)
    return _client(settings, reply_timeout_s=BLOCK_S + settings.redis_timeout_s, connections=1, retry=never)


def _client(settings: Settings, *, reply_timeout_s: float, connections: int, retry: Retry) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url(settings),
        max_connections=connections,
        timeout=reply_timeout_s,
        socket_timeout=reply_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        socket_read_size=_READ_SIZE,
        retry=retry,
        retry_on_error=[],
        health_check_interval=0,
        protocol=2,
    )
    return Redis.from_pool(pool)


def passes_by_itself(error: RedisError) -> bool:
    """Whether Redis is merely away, loading, full, read-only or failing over."""
    return isinstance(error, _PASSING) or (isinstance(error, ResponseError) and str(error).startswith(_PASSING_CODES))


class Backoff:
    """Growing pauses between attempts, jittered so that many processes don't come back in step."""

    def __init__(self, *, first_s: float = 0.05, longest_s: float = 1.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._attempts = 0

    def reset(self) -> None:
        self._attempts = 0

    @property
    def log_level(self) -> int:
        """WARNING for the first failure in a row, DEBUG for its repetitions: an outage is one event."""
        return logging.DEBUG if self._attempts else logging.WARNING

    async def pause(self) -> None:
        """Sleep a random time up to a bound that doubles with each attempt."""
        bound = min(self._longest_s, self._first_s * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 16)
        await asyncio.sleep(bound * random.uniform(0.5, 1.0))  # noqa: S311 (not for secrets)
