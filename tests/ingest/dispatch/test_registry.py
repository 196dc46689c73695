"""The registry, where Redis says which models there are and no more."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest.dispatch.registry import ModelRegistry
from stream.connection.clients import Connections
from stream.keys import MODELS
from stream.settings import IngestSettings
from tests.support.redis.requests_direct import TINY
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_model_that_cannot_be_reached_leaves_nothing_running(
    client: Redis, ingest_settings: IngestSettings
) -> None:
    """Each attempt would else leave a connection behind that listens for ever."""
    await client.zadd(MODELS, {TINY.model: 1})
    await client.set(TINY.alive, "no sorted set", px=60_000)

    before = await _calls(client, "hgetall")
    async with Connections(ingest_settings) as connections:
        registry = ModelRegistry(connections, ingest_settings)
        running = asyncio.create_task(registry.run())

        async def tried_often() -> bool:
            return await _calls(client, "hgetall") >= before + 4

        await eventually(tried_often, "it has tried again and again")
        assert registry.outage
        listening = [task for task in asyncio.all_tasks() if "PartitionClient.run" in str(task.get_coro())]
        running.cancel()
        await asyncio.wait({running})
    assert listening == []


async def test_the_first_consumer_is_looked_for_often(client: Redis, ingest_settings: IngestSettings) -> None:
    """Clients wait until ingest knows it: five looks in half a second, not in five."""
    before = await _calls(client, "zrange")
    async with Connections(ingest_settings) as connections:
        running = asyncio.create_task(ModelRegistry(connections, ingest_settings).run())

        async def looked_often() -> bool:
            return await _calls(client, "zrange") >= before + 5

        await eventually(looked_often, "it has looked again and again", timeout_s=3.5)
        running.cancel()
        await asyncio.wait({running})


async def _calls(client: Redis, command: str) -> int:
    """How often the server has been asked this."""
    stats: Any = await client.info("commandstats")
    return int(stats[f"cmdstat_{command}"]["calls"]) if f"cmdstat_{command}" in stats else 0
