"""The keeper beside the outlet, on a real server: what it says is lost, and what is not."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.batch_size import Pace
from consumers.buffer_pool import Belt
from consumers.completer import Outlet
from consumers.health import Health
from consumers.in_flight import Holdings
from consumers.leases import Keeper
from consumers.onnx.model import Model
from consumers.onnx.providers import Execution
from results.completion import Completed, Completion
from results.outcome import Failed
from stream.connection.group_reader import Reader
from stream.group import Group
from stream.keys import GROUP
from stream.presence import Presence
from tests.stream.test_group_reader import add
from tests.support.redis.requests_direct import TINY
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

_LEASE_S = 0.4


class LateReply(Completion):
    """A completion whose reply is on its way until it may arrive."""

    arrives: asyncio.Event

    async def complete(self, finished: Sequence[Completed]) -> list[bool]:
        mine = await super().complete(finished)
        await self.arrives.wait()
        return mine


async def test_what_is_being_completed_is_not_lost(
    client: Redis, reader: Reader, models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal overtakes the reply of a completion; what another has claimed is said to be lost all the same."""
    await add(client, TINY, b"one")
    await add(client, TINY, b"two")
    group = Group(client, reader, TINY, consumer="anna", lease_s=60)
    await group.create()
    holdings = Holdings()
    done, taken = holdings.take(await group.read(2))
    completion = LateReply(client, TINY, consumer="anna", result_ttl_s=60, max_dead_letters=1)
    completion.arrives = asyncio.Event()
    outlet = Outlet(completion, holdings)
    keeping = asyncio.create_task(_keeper(client, group, models_dir, holdings).run())
    delivering = asyncio.create_task(outlet.run())
    with caplog.at_level(logging.WARNING):
        outlet.put(Completed(done.entry_id, Failed("x", "cancelled", ""), ""))

        async def completed() -> bool:
            return not await client.xrange(TINY.entries, done.entry_id, done.entry_id)

        await eventually(completed, "Redis has taken it as completed")
        await _turn(client)
        assert "lost the lease" not in caplog.text
        await client.xclaim(TINY.entries, GROUP, "bert", 0, [taken.entry_id])
        await _turn(client)
        assert "lost the lease of 1 entries" in caplog.text
        completion.arrives.set()
        outlet.close()
        await delivering
    assert holdings.held == {taken.entry_id}
    keeping.cancel()


async def _turn(client: Redis) -> None:
    """Wait for a renewal that began after this: the heartbeat that follows on one may be that of an earlier one."""
    for _ in range(2):
        await client.delete(TINY.alive)
        await eventually(lambda: client.exists(TINY.alive), "the keeper comes round")


def _keeper(client: Redis, group: Group, models_dir: Path, holdings: Holdings) -> Keeper:
    model = Model(models_dir / "tiny/1/model.onnx", Execution("cpu", 1, 32))
    return Keeper(
        group,
        Presence(client, TINY),
        model,
        holdings,
        Pace(max_batch=32, max_batch_s=1),
        Belt[Any]([]),
        Health(_LEASE_S),
        lease_s=_LEASE_S,
        inference_timeout_s=60,
    )
