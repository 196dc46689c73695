"""The catalog, where Redis says which models there are and no more."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest.catalog import Catalog
from stream.connection import Connections
from stream.keys import MODELS
from stream.settings import Settings
from tests.requests_direct import TINY
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_model_that_cannot_be_reached_leaves_nothing_running(client: Redis, settings: Settings) -> None:
    """Each attempt would else leave a connection behind that listens for ever."""
    await client.zadd(MODELS, {TINY.model: 1})
    await client.set(TINY.alive, "no sorted set", px=60_000)

    async def attempts() -> int:
        stats: Any = await client.info("commandstats")
        return int(stats["cmdstat_hgetall"]["calls"]) if "cmdstat_hgetall" in stats else 0

    before = await attempts()
    async with Connections(settings) as connections:
        catalog = Catalog(connections, settings)
        running = asyncio.create_task(catalog.run())

        async def tried_often() -> bool:
            return await attempts() >= before + 4

        await eventually(tried_often, "it has tried again and again")
        assert catalog.outage
        listening = [task for task in asyncio.all_tasks() if "Route.run" in str(task.get_coro())]
        running.cancel()
        await asyncio.wait({running})
    assert listening == []
