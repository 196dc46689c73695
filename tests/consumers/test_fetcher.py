"""The intake against a real server: what it holds, and when."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from consumers.batch_size import Pace
from consumers.buffer_pool import Belt
from consumers.completer import Outlet
from consumers.fetcher import Intake, gathering_s
from consumers.in_flight import Holdings
from results.completion import Completion
from stream.connection.group_reader import Reader
from stream.entry import Entry, MalformedEntry
from stream.group import Delivery, Group
from stream.keys import Partition
from tests.stream.test_group_reader import add
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def delivered(*more_ms: int) -> list[Delivery]:
    """Deliveries of entries whose ingest said this."""
    entries = [Entry(uuid.uuid4().hex, "", 5, 1, 1, bytes(3), more_ms=one) for one in more_ms]
    return [Delivery(f"{number}-0", entry) for number, entry in enumerate(entries)]


def intake_of(
    client: Redis, partition: Partition, group: Group, holdings: Holdings, belt: Belt[Any], *, claim_interval_s: float
) -> Intake:
    """One that nobody runs batches for."""
    completion = Completion(client, partition, consumer="anna", result_ttl_s=60, max_dead_letters=1)
    pace, outlet = Pace(max_batch=4, max_batch_s=1), Outlet(completion, holdings)
    runner: Any = None
    return Intake(group, holdings, outlet, pace, belt, runner, max_deliveries=3, claim_interval_s=claim_interval_s)


async def test_images_gather_as_long_as_others_are_decoded() -> None:
    """By whoever has the most to decode; never long, and not for what can't be read."""
    assert gathering_s([]) == 0
    assert gathering_s(delivered(0, 0)) == 0
    assert gathering_s(delivered(3, 5, 0)) == 0.005
    assert gathering_s(delivered(60_000)) == 0.016
    assert gathering_s(delivered(-5)) == 0
    assert gathering_s([Delivery("9-0", MalformedEntry("no pixels"))]) == 0
    assert gathering_s([*delivered(5), Delivery("9-0", MalformedEntry("no pixels"))]) == 0.005


async def test_what_was_claimed_is_held_while_it_waits_for_a_buffer(
    client: Redis, reader: Reader, partition: Partition
) -> None:
    """So its lease is renewed: where buffers are rare it would be claimed again and again, and be given up."""
    await add(client, partition, b"abc")
    dead, group = (Group(client, reader, partition, consumer=name, lease_s=0.05) for name in ("dead", "anna"))
    await group.create()
    (lost,) = await dead.read(1)
    holdings = Holdings()
    intake = intake_of(client, partition, group, holdings, Belt([]), claim_interval_s=0.05)
    running = asyncio.create_task(intake.run())

    async def holds() -> bool:
        return holdings.held == {lost.entry_id}

    await eventually(holds, "the entry is held, though no buffer is free")
    running.cancel()


@pytest.mark.parametrize(("more_ms", "expected"), [(5, b"abcdef"), (0, b"abc")])
async def test_few_wait_for_those_that_are_being_decoded(
    client: Redis, reader: Reader, partition: Partition, more_ms: int, expected: bytes
) -> None:
    """What comes meanwhile is in the same batch; whoever comes alone waits for nobody."""

    class Followed(Group):
        """Another image is accepted as soon as one was read that somebody waited for."""

        async def read(self, count: int, rows: Sequence[memoryview] = (), *, wait: bool = True) -> list[Delivery]:
            found = await super().read(count, rows, wait=wait)
            if wait and found:
                await add(client, partition, b"def")
            return found

    await add(client, partition, b"hid")
    await add(client, partition, b"abc", more_ms=more_ms)
    group = Followed(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    entries: Any = await client.xrange(partition.entries, count=1)
    # What is held already is left out, wherever its pixels were read to.
    holdings, belt = Holdings(held={entries[0][0].decode()}), Belt[Any]([np.zeros((4, 1, 1, 3), np.uint8)])
    running = asyncio.create_task(intake_of(client, partition, group, holdings, belt, claim_interval_s=60).run())
    async with asyncio.timeout(10):
        taken = await belt.batches.get()
    running.cancel()
    assert taken
    batch = taken[1]
    assert batch.slot[: len(batch)].tobytes() == expected
