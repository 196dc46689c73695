"""The lease keeper beside the completer, on a real server: what it reports as lost, and what it does not."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consumers.completer import Completer
from consumers.in_flight import InFlight
from consumers.leases import LeaseKeeper
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
from tests.support.worker_context import worker_context

pytestmark = pytest.mark.anyio

_LEASE_S = 0.4


class LateReply(Completion):
    """A completion whose reply is delayed until `arrives` is set."""

    arrives: asyncio.Event

    async def complete(self, finished: Sequence[Completed]) -> list[bool]:
        mine = await super().complete(finished)
        await self.arrives.wait()
        return mine


async def test_an_entry_that_is_being_completed_is_not_lost(
    client: Redis, reader: Reader, models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal overtakes the reply of a completion; an entry that another consumer has claimed is reported as lost."""
    await add(client, TINY, b"one")
    await add(client, TINY, b"two")
    group = Group(client, reader, TINY, consumer="first", lease_s=60)
    await group.create()
    in_flight = InFlight()
    done, taken = in_flight.add(await group.read(2))
    completion = LateReply(client, TINY, consumer="first", result_ttl_s=60, max_dead_letters=1)
    completion.arrives = asyncio.Event()
    completer = Completer(completion, in_flight)
    renewing = asyncio.create_task(_lease_keeper(client, group, models_dir, in_flight).run())
    completing = asyncio.create_task(completer.run())
    with caplog.at_level(logging.WARNING):
        completer.add(Completed(done.entry_id, Failed("x", "cancelled", ""), ""))

        async def completed() -> bool:
            return not await client.xrange(TINY.entries, done.entry_id, done.entry_id)

        await eventually(completed, "Redis has taken it as completed")
        await _next_renewal(client)
        assert "lost the lease" not in caplog.text
        await client.xclaim(TINY.entries, GROUP, "second", 0, [taken.entry_id])
        await _next_renewal(client)
        assert "lost the lease of 1 entries" in caplog.text
        completion.arrives.set()
        completer.close()
        await completing
    assert in_flight.held == {taken.entry_id}
    renewing.cancel()


async def _next_renewal(client: Redis) -> None:
    """Wait for a renewal that began after this: the heartbeat that follows on one may be that of an earlier one."""
    for _ in range(2):
        await client.delete(TINY.alive)
        await eventually(lambda: client.exists(TINY.alive), "the lease keeper ticks")


def _lease_keeper(client: Redis, group: Group, models_dir: Path, in_flight: InFlight) -> LeaseKeeper:
    model = Model(models_dir / "tiny/1/model.onnx", Execution("cpu", 1, 32))
    context = worker_context(model=model, lease_s=_LEASE_S, redis_timeout_s=_LEASE_S / 2)
    return LeaseKeeper(context, group, Presence(client, TINY), in_flight)
