"""The fetcher against a real server: what it holds, and when."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from consumers.batch import BufferPool
from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.fetcher import Fetcher, batching_delay_s
from consumers.in_flight import InFlight
from results.completion import Completion
from stream.connection.group_reader import Reader
from stream.entry import Entry, MalformedEntry
from stream.group import Delivery, Group
from stream.keys import Partition, Priority
from tests.stream.test_group_reader import add
from tests.support.waiting import PATIENCE_S, eventually
from tests.support.worker_context import worker_context

pytestmark = pytest.mark.anyio


def delivered(*more_ms: int) -> list[Delivery]:
    """Deliveries of entries that carry these estimates."""
    entries = [Entry(uuid.uuid4().hex, "", 5, 1, 1, bytes(3), more_ms=estimate) for estimate in more_ms]
    return [Delivery(f"{number}-0", entry) for number, entry in enumerate(entries)]


def fetcher_of(
    client: Redis, partition: Partition, group: Group, context: WorkerContext, in_flight: InFlight
) -> Fetcher:
    """A fetcher whose batches are not run."""
    completion = Completion(client, partition, consumer="first", result_ttl_s=60, max_dead_letters=1)
    return Fetcher(context, group, in_flight, Completer(completion, in_flight))


async def test_entries_are_awaited_while_other_images_are_decoded() -> None:
    """For the ingest with the most to decode; never long, and not for malformed entries."""
    assert batching_delay_s([]) == 0.001
    assert batching_delay_s(delivered(0, 0)) == 0.001
    assert batching_delay_s(delivered(3, 5, 0)) == 0.005
    assert batching_delay_s(delivered(60_000)) == 0.016
    assert batching_delay_s(delivered(-5)) == 0.001
    assert batching_delay_s([Delivery("9-0", MalformedEntry("no pixels"))]) == 0.001
    assert batching_delay_s([*delivered(5), Delivery("9-0", MalformedEntry("no pixels"))]) == 0.005


async def test_a_claimed_entry_is_held_while_it_waits_for_a_buffer(
    client: Redis, reader: Reader, partition: Partition
) -> None:
    """So its lease is renewed. Otherwise it would be claimed again and again, and become a dead letter."""
    await add(client, partition, b"abc")
    dead, group = (Group(client, reader, partition, consumer=name, lease_s=0.05) for name in ("dead", "first"))
    await group.create()
    (lost,) = await dead.read(1)
    in_flight = InFlight()
    context = worker_context(lease_s=0.2, redis_timeout_s=0.1, max_batch=4)
    running = asyncio.create_task(fetcher_of(client, partition, group, context, in_flight).run())

    async def holds() -> bool:
        return in_flight.held == {lost.entry_id}

    await eventually(holds, "the entry is held, though no buffer is free")
    running.cancel()


@pytest.mark.parametrize("more_ms", [5, 0])
async def test_only_the_next_read_waits_for_images_that_are_being_decoded(
    client: Redis, reader: Reader, partition: Partition, more_ms: int
) -> None:
    """A batch that was read runs at once, whatever its entries say."""

    class Followed(Group):
        """Another image is accepted as soon as a waiting read has returned."""

        async def read(
            self,
            count: int,
            rows: Sequence[memoryview] = (),
            *,
            wait: bool = True,
            priority: Priority | None = None,
        ) -> list[Delivery]:
            found = await super().read(count, rows, wait=wait, priority=priority)
            if wait and found:
                await add(client, partition, b"def")
            return found

    await add(client, partition, b"hid")
    await add(client, partition, b"abc", more_ms=more_ms)
    group = Followed(client, reader, partition, consumer="first", lease_s=60)
    await group.create()
    entries: Any = await client.xrange(partition.entries, count=1)
    # An entry that is held already is left out, whichever row its pixels were read into.
    in_flight, buffers = (
        InFlight(held={entries[0][0].decode()}),
        BufferPool(lambda: np.zeros((4, 1, 1, 3), np.uint8), 1),
    )
    context = worker_context(buffers=buffers, lease_s=60, max_batch=4)
    running = asyncio.create_task(fetcher_of(client, partition, group, context, in_flight).run())
    async with asyncio.timeout(PATIENCE_S):
        batch = await buffers.batches.get()
    running.cancel()
    assert batch
    assert batch.buffer[: len(batch)].tobytes() == b"abc"
