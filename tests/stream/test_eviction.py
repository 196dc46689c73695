"""A Redis that would throw queued images away is told at once, not when it has."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from stream.eviction import policy
from tests.support.processes import Processes
from tests.support.waiting import wait_until

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
    assert await policy(limited) == ""
    for evicting in ("allkeys-lru", "volatile-ttl"):
        await limited.config_set("maxmemory-policy", evicting)
        assert await policy(limited) == evicting
    await limited.config_set("maxmemory", "0")
    assert await policy(limited) == ""


async def test_a_consumer_warns_of_a_redis_that_evicts(limited: Redis, processes: Processes) -> None:
    """Once, however many partitions there are; the status is degraded until it is put right, and says why."""
    told = "Redis evicts queued images when its memory is full: maxmemory-policy is"
    await limited.config_set("maxmemory-policy", "allkeys-lru")
    consumer = processes.consumer(version=1, partitions=3).ready()
    wait_until(lambda: consumer.text.count("maxmemory-policy is allkeys-lru") == 1, "it warns")
    look = processes.start("consumers.status")
    assert look.wait() == 1
    assert f"! {told} allkeys-lru" in look.text
    await limited.config_set("maxmemory-policy", "noeviction")
    look = processes.start("consumers.status")
    assert look.wait() == 0, look.text
    other = processes.consumer(version=1, partitions=3).ready()
    assert consumer.text.count(told) == 1
    assert told not in other.text
