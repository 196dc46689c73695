"""Connections to a real server that break: which errors callers see, on the event loop that the processes use."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.connection import connect, connect_reader
from stream.settings import Settings
from tests.chaos.proxy import Proxy
from tests.servers import Server


@pytest.fixture
def uvloop_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


async def _across_a_reset(
    server: Server, make: Callable[[Settings], Redis], use: Callable[[Redis], Awaitable[object]]
) -> None:
    """Use a client before and after its idle connection was reset."""
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with make(Settings(redis_url=proxy.url)) as client:
            await client.ping()
            await proxy.reset_and_wait()
            await use(client)
    finally:
        await proxy.close()


def test_a_command_survives_the_reset_of_an_idle_connection(server: Server, uvloop_runner: asyncio.Runner) -> None:
    """uvloop raises RuntimeError where such a connection is written to; callers see a connection that was lost."""
    uvloop_runner.run(_across_a_reset(server, connect, lambda client: client.ping()))


def test_a_reader_is_told_that_its_connection_was_reset(server: Server, uvloop_runner: asyncio.Runner) -> None:
    """A blocking read is never repeated by itself."""

    async def fails(client: Redis) -> None:
        with pytest.raises(RedisConnectionError):
            await client.ping()

    uvloop_runner.run(_across_a_reset(server, connect_reader, fails))


async def _after(turns: int) -> None:
    """Let the event loop turn so often."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


async def _endlessly(client: Redis, value: bytes) -> None:
    while True:
        await client.echo(value)


async def _cancelled_at_every_turn(server: Server, value: bytes) -> None:
    async with connect(Settings(redis_url=server.url)) as client:
        for turns in range(60):
            working = asyncio.create_task(_endlessly(client, value))
            await _after(turns)
            working.cancel()
            done, _ = await asyncio.wait({working}, timeout=5)
            assert done, f"cancelled after {turns} turns of the event loop, it went on"


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["sent at once", "sent in parts"])
def test_whoever_is_cancelled_amid_a_command_is_cancelled(
    server: Server, uvloop_runner: asyncio.Runner, size: int
) -> None:
    """At whichever turn of the event loop it happens."""
    uvloop_runner.run(_cancelled_at_every_turn(server, bytes(size)))
