"""A reader against a real server: its connection breaks, comes back, and is left in the middle of a wait."""

import asyncio
import threading

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from stream.entry import Entry
from stream.group import Group
from stream.keys import GROUP, Partition
from stream.reader import Reader
from stream.settings import Settings
from tests.chaos.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio


class Told:
    """A witness that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def connected(self) -> None:
        self.events.append("connected")

    def failed(self, error: RedisError) -> None:
        self.events.append(type(error).__name__)


async def add(client: Redis, partition: Partition, pixels: bytes) -> None:
    entry = Entry(id="x", reply="", top=1, height=1, width=len(pixels) // 3, pixels=pixels)
    flat = [*entry.fields(), "due", 0]
    await client.xadd(partition.entries, dict(zip(flat[::2], flat[1::2], strict=True)))


async def test_pixels_lie_in_the_rows(client: Redis, reader: Reader, partition: Partition) -> None:
    """As large as a photograph: they come in many pieces."""
    pixels = bytes(range(256)) * 588
    group = Group(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    for _ in range(3):
        await add(client, partition, pixels)
    rows = [memoryview(bytearray(len(pixels))) for _ in range(2)]
    found = await group.read(32, rows)
    assert [one.entry.pixels for one in found if isinstance(one.entry, Entry)] == [pixels] * 3
    assert rows == [pixels] * 2


async def test_a_lost_connection_is_told_and_made_anew(server: Server, client: Redis, partition: Partition) -> None:
    """A read is never repeated by itself: its reply may have been lost."""
    proxy, told = Proxy(server.port), Told()
    await proxy.start()
    try:
        async with Reader(Settings(redis_url=proxy.url), told) as reader:
            group = Group(client, reader, partition, consumer="anna", lease_s=60)
            await group.create()
            await add(client, partition, b"abc")
            assert len(await group.read(1)) == 1
            await proxy.reset_and_wait()
            with pytest.raises(RedisConnectionError):
                await group.read(1)
            await add(client, partition, b"def")
            assert len(await group.read(1)) == 1
    finally:
        await proxy.close()
    assert told.events == ["connected", "ConnectionError", "connected"]


async def test_a_cancelled_read_ends_its_thread_at_once(server: Server, client: Redis, partition: Partition) -> None:
    """Redis would let it wait for as long as a read may, and the process could not end before."""
    await client.xgroup_create(partition.entries, GROUP, id="0", mkstream=True)
    words: list[str | int] = ["XREADGROUP", "GROUP", GROUP, "anna", "BLOCK", 600_000, "STREAMS", partition.entries, ">"]

    async def waits() -> bool:
        return bool((await client.info("clients"))["blocked_clients"])

    before = set(threading.enumerate())
    async with Reader(Settings(redis_url=server.url, redis_timeout_s=60.0, lease_s=90.0)) as reader:
        reading = asyncio.create_task(reader.entries(words))
        await eventually(waits, "the read waits in Redis")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    wait_until(lambda: before.issuperset(threading.enumerate()), "the thread has ended")
