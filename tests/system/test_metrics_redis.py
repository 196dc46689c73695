"""Each event of a connection to Redis is observed once: connections made, and failures by their kind."""

import pytest
from redis.exceptions import RedisError, ResponseError

from stream.connection.clients import connect
from stream.settings import RedisSettings
from tests.support.redis.recording_observer import RecordingObserver
from tests.support.redis.servers import Server, free_port

pytestmark = pytest.mark.anyio


async def test_a_restart_is_one_more_connection(own_server: Server) -> None:
    """The command that met the closed connection failed once, and succeeded on a new one."""
    observer = RecordingObserver()
    async with connect(RedisSettings(redis_url=own_server.url), observer) as client:
        await client.ping()
        assert observer.events == ["connected"]
        own_server.kill()
        own_server.start()
        await client.ping()
    assert observer.events in (["connected", "ConnectionError", "connected"], ["connected", "connected"])


async def test_a_server_that_is_not_there_is_observed_for_each_attempt() -> None:
    """One command makes two attempts, see stream/connection/clients.py."""
    observer = RecordingObserver()
    async with connect(RedisSettings(redis_url=f"redis://127.0.0.1:{free_port()}"), observer) as client:
        with pytest.raises(RedisError):
            await client.ping()
    assert observer.events == ["ConnectionError"] * 2


async def test_an_error_that_redis_answers_is_observed_once(server: Server) -> None:
    """By its class; a observer decides whether it counts."""
    observer = RecordingObserver()
    async with connect(RedisSettings(redis_url=server.url), observer) as client:
        await client.zadd("sluice:{all}:models", {"tiny": 1})
        with pytest.raises(ResponseError):
            await client.incr("sluice:{all}:models")
    assert observer.events == ["connected", "ResponseError"]
