"""What is wrong with a Redis server is reported before it costs an image."""

import shutil
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.server_check import (
    FAULTS,
    ServerFacts,
    ServerRefused,
    Version,
    doubts,
    problems,
    read_facts,
    refuse_fatal,
    refused_writes,
)
from stream.settings import Durability
from tests.support.processes import Processes
from tests.support.redis.servers import Server
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def limited(client: Redis) -> AsyncIterator[Redis]:
    """A server with a limit to its memory, which is far."""
    await client.config_set("maxmemory", "1gb")
    yield client
    await client.config_set("maxmemory", "0")
    await client.config_set("maxmemory-policy", "noeviction")


async def test_what_evicts_is_a_policy_with_a_limit(limited: Redis) -> None:
    """Without one nothing is ever evicted."""
    assert (await read_facts(limited)).eviction_policy == ""
    for evicting in ("allkeys-lru", "volatile-ttl"):
        await limited.config_set("maxmemory-policy", evicting)
        assert (await read_facts(limited)).eviction_policy == evicting
    await limited.config_set("maxmemory", "0")
    assert (await read_facts(limited)).eviction_policy == ""


async def test_a_full_server_is_a_problem(limited: Redis) -> None:
    """Reading works then, and all consumers live: nothing else would show it."""
    assert not (await read_facts(limited)).full
    await limited.config_set("maxmemory", "1mb")
    found = problems(await read_facts(limited), "memory")
    assert found == [
        "Redis is full and accepts no image: it uses more than maxmemory. Raise that, or lower max_backlog."
    ]


async def test_a_consumer_warns_of_a_redis_that_evicts(limited: Redis, processes: Processes) -> None:
    """Once, however many partitions there are; the status is degraded until it is put right, and says why."""
    warning = "Redis evicts queued images when its memory is full: maxmemory-policy is"
    await limited.config_set("maxmemory-policy", "allkeys-lru")
    consumer = processes.consumer(version=1, partitions=3).ready()
    wait_until(lambda: consumer.text.count("maxmemory-policy is allkeys-lru") == 1, "it warns")
    look = processes.start("consumers.status")
    assert look.wait() == 1
    assert f"! {warning} allkeys-lru" in look.text
    await limited.config_set("maxmemory-policy", "noeviction")
    look = processes.start("consumers.status")
    assert look.wait() == 0, look.text
    other = processes.consumer(version=1, partitions=3).ready()
    assert consumer.text.count(warning) == 1
    assert warning not in other.text


@pytest.mark.parametrize(
    ("kind", "version", "word"),
    [
        ("redis", (6, 2, 20), "XAUTOCLAIM hides"),
        ("redis", (7, 0, 4), "CVE-2022-35951"),
        ("redis", (7, 2, 10), "CVE-2025-49844"),
        ("redis", (8, 2, 3), ""),
        ("valkey", (9, 1, 1), "GHSA-fq2f-crmw-q97r"),
        ("valkey", (9, 1, 2), ""),
    ],
)
def test_versions_with_known_faults_are_named(kind: Literal["redis", "valkey"], version: Version, word: str) -> None:
    """With the version that has the fix; one that cannot work at all is refused."""
    facts = ServerFacts(kind, version)
    found = problems(facts, "memory")
    assert bool(found) == bool(word)
    assert all(word in problem and "Upgrade to" in problem for problem in found[:1])
    assert all(fault.since < fault.fixed for fault in FAULTS)
    with pytest.raises(ServerRefused) if version < (7, 0, 0) else nullcontext():
        refuse_fatal(facts)


@pytest.mark.parametrize(
    ("durability", "appendonly", "appendfsync", "survives"),
    [
        ("memory", False, "", True),
        ("process", False, "", False),
        ("process", True, "", None),
        ("process", True, "everysec", False),
        ("process", True, "no", True),
        ("process", True, "always", True),
        ("disk", True, "no", False),
        ("disk", True, "everysec", False),
        ("disk", True, "always", True),
    ],
)
def test_each_level_needs_its_way_of_writing(
    durability: Durability, appendonly: bool, appendfsync: str, survives: bool | None
) -> None:
    """A server that writes otherwise is a problem; of one that does not say, an admission waits for its disk."""
    facts = ServerFacts("redis", (8, 2, 3), appendonly, appendfsync)
    assert facts.survives(durability) is survives
    assert len(problems(facts, durability)) == (survives is False)


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "version", "confirms"),
    [
        (True, "", (7, 0, 15), False),
        (True, "", (7, 2, 11), True),
        (True, "", None, True),
        (True, "always", (7, 0, 15), True),
        (True, "everysec", (7, 0, 15), False),
        (False, "always", (8, 2, 3), False),
    ],
)
def test_a_server_that_never_confirms_the_disk_is_a_problem(
    appendonly: bool, appendfsync: str, version: Version | None, confirms: bool
) -> None:
    """It neither has WAITAOF nor says how it writes. At the other levels nothing needs to be confirmed."""
    facts = ServerFacts("redis", version, appendonly, appendfsync)
    assert facts.can_confirm("disk") is confirms
    assert bool(problems(facts, "disk")) is not confirms
    assert facts.can_confirm("process")


@pytest.mark.parametrize(
    ("version", "appendfsync", "says"),
    [
        ((7, 0, 15), "", "cannot check"),
        ((7, 0, 15), "everysec", "can lose accepted images"),
        ((7, 0, 15), "always", ""),
        ((8, 2, 3), "", ""),
        ((8, 2, 3), "everysec", "only after up to a second"),
    ],
)
def test_a_server_without_waitaof_may_lose_images(version: Version, appendfsync: str, says: str) -> None:
    """No admission can wait for its disk at the default level: this is reported, and what cannot be known as well."""
    facts = ServerFacts("redis", version, True, appendfsync)
    found = [*problems(facts, "process"), *doubts(facts, "process")]
    assert len(found) == bool(says)
    assert says in "".join(found)


async def test_a_limit_for_clients_and_a_clock_that_stands_are_problems(own_server: Server) -> None:
    """The limit could close a consumer's connection in the middle of a batch."""
    async with Redis.from_url(own_server.url) as client:
        facts = await read_facts(client)
        assert (facts.appendonly, facts.appendfsync, facts.clock_moves) == (True, "always", True)
        assert facts.version
        assert facts.version >= (7, 0, 0)
        await client.config_set("maxmemory-clients", "100mb")
        limited = await read_facts(client)
    assert "maxmemory-clients" in problems(limited, "memory")[-1]
    assert "does not move" in problems(replace(facts, clock_moves=False), "memory")[-1]


@pytest.mark.parametrize("appendonly", ["no", "yes"])
async def test_a_disk_that_takes_nothing_is_named(tmp_path: Path, appendonly: str) -> None:
    """Redis refuses writes then, heartbeats too: it is not that no consumer runs. So it does beside an append-only
    file that can be written, but not without `save`."""
    folder = tmp_path / "gone"
    folder.mkdir()
    server = Server(folder, options={"save": "3600 1", "appendonly": appendonly})
    server.start()
    try:
        async with Redis.from_url(server.url) as client:
            assert await refused_writes(client) == ""
            await client.set("a", "b")
            shutil.rmtree(folder)
            await client.bgsave()

            async def failed() -> bool:
                return bool(await refused_writes(client))

            await eventually(failed, "the snapshot fails")
            assert "cannot write to its disk" in await refused_writes(client)
            with pytest.raises(ResponseError, match="MISCONF"):
                await client.set("a", "c")
            await client.config_set("save", "")
            assert await refused_writes(client) == ""
            await client.set("a", "c")
    finally:
        server.kill()
