"""What a consumer weighs beside its model, and an image while it waits."""

import uuid
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.admission import Admission
from stream.entry import Entry
from stream.keys import Partition
from stream.presence import Presence
from tests.processes import Processes
from tests.requests_direct import outcomes, pictures, send
from tests.test_stream_group import report

pytestmark = pytest.mark.anyio

#: Bound for a consumer; the model of the tests weighs next to nothing.
_MOST_BYTES = 200 * 10**6

_SIZE = 224
_PIXELS = _SIZE * _SIZE * 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc (Linux)")
async def test_a_consumer_stays_small(processes: Processes, client: Redis) -> None:
    """After many full batches, too."""
    process = processes.consumer()
    images = pictures(200)
    await outcomes(client, await send(client, images))
    assert process.resident_bytes < _MOST_BYTES


async def test_a_queued_image_costs_little_more_than_its_pixels(client: Redis, partition: Partition) -> None:
    """Whatever comes with it: the entry's fields, the mark of its request, and what the allocator rounds up."""
    await Presence(client, partition).beat(report("somebody"), lease_s=60)
    admission = Admission(client, partition, result_ttl_s=60)

    async def used_with(count: int) -> int:
        for _ in range(count):
            entry = Entry(uuid.uuid4().hex, "", 5, _SIZE, _SIZE, bytes(_PIXELS))
            await admission.admit(entry, timeout_s=60, max_backlog=1000)
        return int((await client.info("memory"))["used_memory"])

    # The first few pay for what the connection and the keys need once.
    before = await used_with(10)
    assert (await used_with(200)) - before < 1.1 * 200 * _PIXELS
