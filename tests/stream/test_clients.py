"""Connections to a real server that break: which errors callers see, on the event loop that the processes use."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop
from redis.asyncio import Connection, Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.connection.client import CONNECTIONS, NullObserver, Pool, pack
from stream.connection.clients import AT_START, Backoff, connect, connect_reader
from stream.settings import RedisSettings
from tests.chaos.proxy import Proxy
from tests.support.redis.servers import Server


@pytest.fixture
def uvloop_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


async def _across_a_reset(
    server: Server, make: Callable[[RedisSettings], Redis], use: Callable[[Redis], Awaitable[object]]
) -> None:
    """Use a client before and after its idle connection was reset."""
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with make(RedisSettings(redis_url=proxy.url)) as client:
            await client.ping()
            await proxy.reset_and_wait()
            await use(client)
    finally:
        await proxy.close()


def test_a_command_survives_the_reset_of_an_idle_connection(server: Server, uvloop_runner: asyncio.Runner) -> None:
    """uvloop raises RuntimeError where such a connection is written to; callers see a connection that was lost."""
    uvloop_runner.run(_across_a_reset(server, connect, lambda client: client.ping()))


def test_a_reader_notices_that_its_connection_was_reset(server: Server, uvloop_runner: asyncio.Runner) -> None:
    """A blocking read is never repeated by itself."""

    async def fails(client: Redis) -> None:
        with pytest.raises(RedisConnectionError):
            await client.ping()

    uvloop_runner.run(_across_a_reset(server, connect_reader, fails))


async def _after(iterations: int) -> None:
    """Let the event loop turn so often."""
    loop = asyncio.get_running_loop()
    for _ in range(iterations):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


async def _endlessly(client: Redis, value: bytes) -> None:
    while True:
        await client.echo(value)


async def _cancelled_at_every_iteration(server: Server, value: bytes) -> None:
    async with connect(RedisSettings(redis_url=server.url)) as client:
        for iterations in range(60):
            working = asyncio.create_task(_endlessly(client, value))
            await _after(iterations)
            working.cancel()
            done, _ = await asyncio.wait({working}, timeout=5)
            assert done, f"cancelled after {iterations} turns of the event loop, it went on"


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["sent at once", "sent in parts"])
def test_a_task_cancelled_amid_a_command_is_cancelled(server: Server, uvloop_runner: asyncio.Runner, size: int) -> None:
    """At whichever turn of the event loop it happens."""
    uvloop_runner.run(_cancelled_at_every_iteration(server, bytes(size)))


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("XINFO GROUPS", "key"),
        ("SET", "ключ", 1, b"\0\r\n", 0.5, -3),
        ("XADD", "k", "*", "px", bytes(7000), "h", 2),
    ],
    ids=["one word", "two words in one", "every type", "a large value"],
)
def test_commands_are_packed_as_redis_py_packs_them(command: tuple[str, ...]) -> None:
    """Byte for byte, whatever the parts in which they are sent."""
    theirs = Connection()
    assert b"".join(pack(*command, encode=theirs.encoder.encode)) == b"".join(theirs.pack_command(*command))


async def _two_at_once(pool: Pool) -> None:
    held = await pool.get_connection()
    waiting = asyncio.create_task(pool.get_connection())
    await _after(3)
    assert not waiting.done()
    await pool.release(held)
    assert await waiting is held
    with pytest.raises(RedisConnectionError, match="No connection available"):
        await pool.get_connection()
    await pool.release(held)
    await pool.aclose()


def test_who_finds_no_connection_waits_for_one_within_bounds(server: Server, uvloop_runner: asyncio.Runner) -> None:
    """And gets the one that is given back."""
    options: dict[str, Any] = {
        "connection_class": CONNECTIONS[Connection],
        "host": "127.0.0.1",
        "port": server.port,
        "observer": NullObserver(),
    }
    uvloop_runner.run(_two_at_once(Pool(max_connections=1, wait_s=0.05, **options)))


def test_a_redis_that_starts_with_its_client_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """One that stays unavailable is a warning, once. So is each later outage, from its first failure."""
    caplog.set_level("DEBUG")
    backoff = Backoff(first_s=0, longest_s=0, quiet=AT_START)
    with asyncio.Runner() as runner:
        for _ in range(AT_START + 3):
            runner.run(backoff.wait_for_redis(RedisConnectionError("no socket")))
        assert backoff.reset()
        runner.run(backoff.wait_for_redis(RedisConnectionError("no socket")))
    levels = [one.levelname for one in caplog.records if "waiting for Redis" in one.message]
    assert levels == [*["DEBUG"] * AT_START, "WARNING", "DEBUG", "DEBUG", "WARNING"]
