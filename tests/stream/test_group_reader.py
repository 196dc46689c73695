"""A reader against a real server: its connection breaks, comes back, and is left in the middle of a wait."""

import asyncio
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Group
from stream.keys import GROUP, Partition
from stream.settings import RedisSettings
from tests.chaos.proxy import Proxy
from tests.support.redis.clusters import SLOTS, ClusterNode
from tests.support.redis.inline import inline
from tests.support.redis.recording_observer import RecordingObserver
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import PATIENCE_S, eventually, wait_until

pytestmark = pytest.mark.anyio


async def add(client: Redis, partition: Partition, pixels: bytes, *, more_ms: int = 0) -> None:
    entry = Entry(id="x", reply="", top=1, height=1, width=len(pixels) // 3, pixels=pixels, more_ms=more_ms)
    await client.xadd(partition.entries, inline(entry))


async def test_pixels_lie_in_the_rows(client: Redis, reader: Reader, partition: Partition) -> None:
    """As large as an image: they come in many pieces."""
    pixels = bytes(range(256)) * 588
    group = Group(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    for _ in range(3):
        await add(client, partition, pixels)
    rows = [memoryview(bytearray(len(pixels))) for _ in range(2)]
    found = await group.read(32, rows)
    assert [one.entry.pixels for one in found if isinstance(one.entry, Entry)] == [pixels] * 3
    assert rows == [pixels] * 2


async def test_pixels_of_keys_lie_in_the_rows(client: Redis, reader: Reader, partition: Partition) -> None:
    """They come in many pieces, too. Values of another size, and lost ones, leave their rows alone."""
    group = Group(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    stored = {"a": bytes(range(256)) * 588, "b": b"short", "c": None, "d": bytes(150_528), "e": b""}
    for request_id, value in stored.items():
        await client.xadd(partition.entries, {"id": request_id})
        if value is not None:
            await client.set(partition.pixels(request_id), value, ex=60)
    rows = [memoryview(bytearray(b"\1" * 150_528)) for _ in range(4)]
    words: list[str | int] = ["XREADGROUP", "GROUP", GROUP, "anna", "STREAMS", partition.entries, ">"]
    found = await reader.entries(words, rows, partition.pixels)
    assert [one.value for one in found] == list(stored.values())
    assert [one.value is row for one, row in zip(found, rows, strict=False)] == [True, False, False, True]
    assert [row == bytes([1]) * 150_528 for row in rows] == [False, True, True, False]


async def test_an_error_in_place_of_pixels_is_reported(own_server: Server, partition: Partition) -> None:
    """The connection stays in step: the next read gets its own reply."""
    async with Redis.from_url(own_server.url) as client, Reader(RedisSettings(redis_url=own_server.url)) as reader:
        group = Group(client, reader, partition, consumer="anna", lease_s=60)
        await group.create()
        await client.xadd(partition.entries, {"id": "a"})
        await client.execute_command("ACL", "SETUSER", "default", "-mget")  # type: ignore[no-untyped-call]
        with pytest.raises(NoPermissionError, match=rf"\(MGET on {re.escape(partition.pixels('a'))}\)"):
            await group.read(1)
        await client.execute_command("ACL", "SETUSER", "default", "+mget")  # type: ignore[no-untyped-call]
        await client.xadd(partition.entries, {"id": "b"})
        await client.set(partition.pixels("b"), b"abc")
        words: list[str | int] = ["XREADGROUP", "GROUP", GROUP, "anna", "STREAMS", partition.entries, ">"]
        assert [one.value for one in await reader.entries(words, (), partition.pixels)] == [b"abc"]


async def test_a_lost_connection_is_seen_and_made_again(server: Server, client: Redis, partition: Partition) -> None:
    """A read is never repeated by itself: its reply may have been lost."""
    proxy, observer = Proxy(server.port), RecordingObserver()
    await proxy.start()
    try:
        async with Reader(RedisSettings(redis_url=proxy.url), observer) as reader:
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
    assert observer.events == ["connected", "ConnectionError", "connected"]


async def test_a_cancelled_read_ends_its_thread_at_once(server: Server, client: Redis, partition: Partition) -> None:
    """Redis would let it wait for as long as a read may, and the process could not end before."""
    await client.xgroup_create(partition.entries, GROUP, id="0", mkstream=True)
    words: list[str | int] = ["XREADGROUP", "GROUP", GROUP, "anna", "BLOCK", 600_000, "STREAMS", partition.entries, ">"]

    async def waits() -> bool:
        return bool((await client.info("clients"))["blocked_clients"])

    before = set(threading.enumerate())
    async with Reader(RedisSettings(redis_url=server.url, redis_timeout_s=60.0)) as reader:
        reading = asyncio.create_task(reader.entries(words))
        await eventually(waits, "the read waits in Redis")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.entries(waiting(partition)) == []
    wait_until(lambda: before.issuperset(threading.enumerate()), "the thread has ended")


def waiting(partition: Partition) -> list[str | int]:
    """A group read that waits for a moment."""
    return ["XREADGROUP", "GROUP", GROUP, "anna", "BLOCK", 1, "STREAMS", partition.entries, ">"]


async def test_a_server_that_falls_silent_is_a_time_out(own_server: Server, partition: Partition) -> None:
    """The connection is given up: the answer may come when nobody expects it any more."""
    observer = RecordingObserver()
    settings = RedisSettings(redis_url=own_server.url, redis_timeout_s=0.1)
    async with Redis.from_url(own_server.url) as redis, Reader(settings, observer) as reader:
        await redis.xgroup_create(partition.entries, GROUP, id="0", mkstream=True)
        assert await reader.entries(waiting(partition)) == []
        own_server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                await reader.entries(waiting(partition))
        finally:
            own_server.signal(signal.SIGCONT)
        assert await reader.entries(waiting(partition)) == []
    assert observer.events == ["connected", "TimeoutError", "connected"]


async def test_a_primary_that_cannot_be_found_is_reported(partition: Partition) -> None:
    """As a connection that cannot be made."""
    observer = RecordingObserver()
    settings = RedisSettings(redis_url=f"redis+cluster://127.0.0.1:{free_port()}")
    async with Reader(settings, observer, partition) as reader:
        with pytest.raises(RedisConnectionError):
            await reader.entries(waiting(partition))
    assert observer.events == ["ConnectionError"]


async def test_a_server_that_becomes_a_replica_is_left(own_server: Server, partition: Partition) -> None:
    """It has done nothing, and once there is a primary again the reader is on a connection to it."""
    observer = RecordingObserver()
    settings = RedisSettings(redis_url=own_server.url)
    async with Redis.from_url(own_server.url) as redis, Reader(settings, observer) as reader:
        await redis.xgroup_create(partition.entries, GROUP, id="0", mkstream=True)
        assert await reader.entries(waiting(partition)) == []
        await redis.execute_command("REPLICAOF", "127.0.0.1", free_port())  # type: ignore[no-untyped-call]
        with pytest.raises(RedisConnectionError, match="no primary"):
            await reader.entries(waiting(partition))
        await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        assert await reader.entries(waiting(partition)) == []
    assert observer.events == ["connected", "ConnectionError", "connected"]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[ClusterNode, ClusterNode]]:
    """A Cluster of two primaries, the first of which has all slots."""
    first, second = (ClusterNode(tmp_path / name, bus=free_port()) for name in ("first", "second"))
    try:
        for epoch, node in enumerate((first, second), start=1):
            node.start()
            node.ask(f"CLUSTER SET-CONFIG-EPOCH {epoch}")
        first.ask(f"CLUSTER ADDSLOTSRANGE 0 {SLOTS - 1}")
        first.ask(f"CLUSTER MEET 127.0.0.1 {second.port} {second.bus}")
        for node in (first, second):
            wait_until(lambda one=node: b"cluster_state:ok" in one.ask("CLUSTER INFO"), "the cluster is well")  # type: ignore[misc]
            wait_until(lambda one=node: b"cluster_known_nodes:2" in one.ask("CLUSTER INFO"), "they know each other")  # type: ignore[misc]
        wait_until(lambda: len(first.slots() | second.slots()) == SLOTS, "the slots are known")
        yield first, second
    finally:
        first.end()
        second.end()


async def test_a_reader_follows_its_slot_to_another_node(
    pair: tuple[ClusterNode, ClusterNode], partition: Partition
) -> None:
    """While the slot is on its way it passes by itself; then the reader goes where it is now."""
    (first, second), observer = pair, RecordingObserver()
    slot = key_slot(partition.entries.encode())
    first.redis.xgroup_create(partition.entries, GROUP, id="0", mkstream=True)
    url = f"redis+cluster://127.0.0.1:{first.port}"
    async with Reader(RedisSettings(redis_url=url), observer, partition) as reader:
        assert await reader.entries(waiting(partition)) == []
        second.ask(f"CLUSTER SETSLOT {slot} IMPORTING {first.id}")
        first.ask(f"CLUSTER SETSLOT {slot} MIGRATING {second.id}")
        first.redis.migrate("127.0.0.1", second.port, [partition.entries], 0, 10_000)
        with pytest.raises(TryAgainError):
            await reader.entries(waiting(partition))
        for node in (second, first):
            node.ask(f"CLUSTER SETSLOT {slot} NODE {second.id}")
        with pytest.raises(RedisConnectionError, match="no primary"):
            await reader.entries(waiting(partition))
        assert await reader.entries(waiting(partition)) == []
    assert observer.events == ["connected", "TryAgainError", "ConnectionError", "connected"]
