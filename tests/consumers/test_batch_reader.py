"""Batches of interactive and bulk images, read from a real server."""

import asyncio
import random
import time
import uuid

import numpy as np
import pytest
from redis.asyncio import Redis

from consumers.batch import Batch, entry_of
from consumers.batch_reader import BatchReader
from consumers.batch_size import BatchSizer
from consumers.in_flight import InFlight
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Delivery, Group
from stream.keys import PRIORITIES, Partition, Priority
from tests.support.redis.inline import inline

pytestmark = pytest.mark.anyio

ROWS = 8


class World:
    """Batches of up to 8 images of one pixel, of a model that takes `image_s` for each."""

    def __init__(self, client: Redis, reader: Reader, partition: Partition) -> None:
        self._client = client
        self._partition = partition
        self._buffer = np.zeros((ROWS, 1, 1, 3), np.uint8)
        self._sent = 0
        self.sizer = BatchSizer(max_batch=ROWS, max_batch_s=1.0)
        self.group = Group(client, reader, partition, consumer="anna", lease_s=60, version="1")
        self.in_flight = InFlight()
        self.in_flight.clock.set(0)  # All images seem to have just come.
        self.now_s = 0.0
        self.batches = self.reader()

    def reader(self) -> BatchReader:
        """One with a clock that stands still, unless a test moves it."""
        return BatchReader(self.group, self.in_flight, self.sizer, bulk_share=0.25, clock=lambda: self.now_s)

    async def send(self, count: int, priority: Priority, version: str = "") -> None:
        """Entries that are numbered in their requests' ids and in their pixels, over all classes."""
        for _ in range(count):
            pixels = self._sent.to_bytes(3)
            one = Entry(f"{self._sent}-{uuid.uuid4().hex}", "", 1, 1, 1, pixels)
            self._sent += 1
            await self._client.xadd(self._partition.stream(priority, version).key, inline(one))

    async def read(self) -> str:
        """The classes of the next batch, as letters, after a check of its size, order and pixels."""
        rows = [row.data for row in self._buffer.reshape(ROWS, -1)]
        batch = Batch.fill(self._buffer, await self.batches.read(rows, wait=False))
        self._buffer, ran = np.zeros_like(self._buffer), self._buffer
        numbers = [int.from_bytes(row.tobytes()) for row in ran[: len(batch)]]
        assert numbers == [number_of(one) for one in batch.deliveries], "each image is in its own row"
        self.done = batch.deliveries
        self.in_flight.remove([one.entry_id for one in batch.deliveries])
        return "".join(one.priority[0] for one in batch.deliveries)


def number_of(delivery: Delivery) -> int:
    return int(entry_of(delivery).id.partition("-")[0])


@pytest.fixture
async def world(client: Redis, reader: Reader, partition: Partition) -> World:
    world = World(client, reader, partition)
    await world.group.create()
    return world


async def test_a_batch_of_one_class_is_what_there_is(world: World) -> None:
    """In one read, however long a batch takes."""
    world.sizer.add_run(1, 0.1)
    for priority in PRIORITIES:
        await world.send(5, priority)
        assert await world.read() == 5 * priority[0]
        assert not world.batches.keeps
    assert await world.read() == ""


async def test_short_batches_are_filled_up_with_bulk_images(world: World) -> None:
    """Interactive images first; what was read too much is the next batch's."""
    await world.send(3, "interactive")
    await world.send(16, "bulk")
    assert await world.read() == "iiibbbbb"
    assert (world.batches.keeps, world.batches.late) == (True, False)
    assert len(world.in_flight.held) == 3
    await world.send(1, "interactive")
    assert await world.read() == "ibbbbbbb"
    assert await world.read() == "bbbb"


async def test_in_long_batches_bulk_images_do_not_delay_interactive_ones(world: World) -> None:
    """A quarter of a batch may be interactive and bulk images. The model must be free before the next one is put
    together."""
    world.sizer.add_run(1, 0.1)
    await world.send(20, "bulk")
    assert await world.read() == "bbbbbbbb"
    assert world.batches.late
    await world.send(2, "interactive")
    await world.batches.read_ahead()
    assert len(world.in_flight.held) == 8
    assert await world.read() == "ii"
    assert await world.read() == "bbbbbb", "as long as a whole batch with the interactive images that may come"
    await world.send(1, "interactive")
    assert await world.read() == "ib"
    assert await world.read() == "bbbbb"
    assert await world.read() == ""
    assert not world.batches.late


async def test_bulk_images_join_no_interactive_one_that_has_waited_for_a_whole_batch(world: World) -> None:
    """It is answered as soon as possible then, since they have just had their share."""
    world.sizer.add_run(1, 0.1)
    await world.send(20, "bulk")
    assert await world.read() == "bbbbbbbb"
    await world.send(1, "interactive")
    await world.batches.read_ahead()
    world.in_flight.clock.set(int(time.time() * 1000) + 800)
    assert await world.read() == "i"


async def test_bulk_images_leave_time_for_the_interactive_ones_at_their_rate(world: World) -> None:
    """One a second, and an image takes a second: half of the time is theirs. Once they stay out, none is left."""
    world.sizer.restart(1.0)
    await world.send(2, "interactive")
    await world.send(30, "bulk")
    assert await world.read() == "iibb"
    assert await world.read() == "bbb"
    assert await world.read() == "bbb"
    world.now_s += 2.1
    assert await world.read() == "bbbbbbbb"


async def test_what_others_have_handed_back_goes_first(world: World) -> None:
    """In a batch of its own, whatever its class. A batch that is being read just then stays as it is."""
    world.sizer.add_run(1, 0.1)
    other = Group(world._client, world.group._reader, world._partition, consumer="bert", lease_s=60, version="1")
    await world.send(10, "bulk")
    held = [one.entry_id for one in await other.read(10)]
    await other.hand_back(counted=(), uncounted=held)
    await world.send(20, "bulk")
    assert await world.read() == "bbbbbbbb"
    await world.send(2, "interactive")
    returned = await world.group.take_back(9) + await world.group.take_back(9)
    assert [number_of(one) for one in returned] == list(range(10))
    reading = asyncio.create_task(world.read())
    await asyncio.sleep(0)
    world.batches.keep_first(world.in_flight.add(returned))
    assert await reading == "ii"
    await world.send(1, "interactive")
    assert [await world.read(), await world.read()] == ["bbbbbbbb", "bb"]
    assert [number_of(one) for one in world.done] == [8, 9]
    assert await world.read() == "ib"


@pytest.mark.parametrize(("image_s", "late"), [(0.006, False), (0.007, True), (2.0, True)])
async def test_a_batch_waits_until_the_model_is_free_if_it_takes_long(world: World, image_s: float, late: bool) -> None:
    """Also a batch of one image."""
    world.sizer.restart(image_s)
    await world.send(1, "bulk")
    assert await world.read() == "b"
    assert world.batches.late is late


@pytest.mark.parametrize("image_s", [0.0001, 0.1])
@pytest.mark.parametrize("rows", [ROWS, 1])
async def test_bulk_images_get_their_share_of_an_overload(world: World, image_s: float, rows: int) -> None:
    """A quarter, here, of many batches; no less while there are some, and no more while interactive images wait."""
    world.sizer = BatchSizer(max_batch=rows, max_batch_s=100.0)
    world.batches = world.reader()
    world.sizer.add_run(1, image_s)
    world._buffer = np.zeros((rows, 1, 1, 3), np.uint8)
    await world.send(400, "interactive")
    await world.send(200, "bulk")
    ran = "".join([await read_rows(world, rows) for _ in range(400 // rows)])
    assert len(ran) == 400
    assert 0.23 <= ran.count("b") / len(ran) <= 0.29
    assert "i" * 24 not in ran


async def read_rows(world: World, rows: int) -> str:
    buffer = [row.data for row in world._buffer.reshape(rows, -1)]
    found = await world.batches.read(buffer, wait=False)
    world.in_flight.remove([one.entry_id for one in found])
    return "".join(one.priority[0] for one in found)


@pytest.mark.parametrize("seed", range(6))
async def test_every_image_runs_once_in_the_order_of_its_stream(world: World, seed: int) -> None:
    """Whatever arrives when, in whichever stream, and however fast the model is."""
    chosen = random.Random(seed)
    ran: dict[tuple[str, str], list[int]] = {}
    for _ in range(40):
        world.sizer.add_run(1, chosen.choice([0.001, 0.02, 0.1]))
        for priority in PRIORITIES:
            for version in ("", "1"):
                await world.send(chosen.choice([0, 0, 1, 5, 12]), priority, version)
        for _ in range(chosen.randrange(4)):
            await note(world, ran)
            if chosen.random() < 0.5:
                await world.batches.read_ahead()
    while await note(world, ran):
        assert len(world.done) <= ROWS
    assert sorted(number for numbers in ran.values() for number in numbers) == list(range(world._sent))
    for numbers in ran.values():
        assert numbers == sorted(numbers)
    assert not world.in_flight.held


async def note(world: World, ran: dict[tuple[str, str], list[int]]) -> str:
    classes = await world.read()
    for one in world.done:
        stream = world._partition.stream_of(one.entry_id)
        ran.setdefault((stream.priority, stream.version), []).append(number_of(one))
    assert classes in {"i" * count + "b" * (len(classes) - count) for count in range(ROWS + 1)}
    return classes
