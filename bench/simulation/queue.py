"""The stream layer alone: images through admission, the group and completion, by the very code of ingest and consumers.

What a server is asked to do is read from its own counters (INFO), so that it is the same on a busy machine.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from redis.asyncio import Redis

from results.completion import Completed, Completion
from results.outcome import Done
from stream.admission import Admission
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Group
from stream.keys import Partition, new_id

#: Admissions on their way at a time: enough that the server always has another one to do.
_AT_ONCE = 16

_BATCH = 32

_NO_BOUND = 10**9

#: Commands of the main path. What they run inside of scripts is part of the script's own time.
_COMMANDS = ("set", "evalsha", "xreadgroup", "mget")


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has done so far: seconds of its CPU, of its commands, and bytes in and out."""

    cpu_s: float
    commands_s: float
    bytes_in: int
    bytes_out: int

    def since(self, before: "Counters") -> "Counters":
        return Counters(
            self.cpu_s - before.cpu_s,
            self.commands_s - before.commands_s,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
        )


async def counters(*servers: Redis) -> Counters:
    """Of all that these servers do together, background threads included."""
    found = [await one.info("everything") for one in servers]
    return Counters(
        sum(one["used_cpu_sys"] + one["used_cpu_user"] for one in found),
        sum(one.get(f"cmdstat_{name}", {}).get("usec", 0) for one in found for name in _COMMANDS) / 1e6,
        sum(one["total_net_input_bytes"] for one in found),
        sum(one["total_net_output_bytes"] for one in found),
    )


class IngestLayer:
    """Where images are admitted to one partition."""

    def __init__(self, redis: Redis, partition: Partition, *, size: int) -> None:
        self._number = partition.number
        self._size = size
        self._pixels = np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8).tobytes()
        self._admission = Admission(redis, partition, result_ttl_s=600)

    async def fill(self, count: int) -> None:
        """Admit so many images."""
        left = iter(range(count))

        async def admit() -> None:
            for _ in left:
                entry = Entry(new_id(self._number), "bench", 5, self._size, self._size, self._pixels)
                await self._admission.admit(entry, timeout_s=600, max_backlog=_NO_BOUND, without_consumers=True)

        await asyncio.gather(*(admit() for _ in range(_AT_ONCE)))


class Queue(IngestLayer):
    """One partition, filled and worked off by hand."""

    def __init__(self, redis: Redis, reader: Reader, partition: Partition, *, size: int) -> None:
        super().__init__(redis, partition, size=size)
        self._completion = Completion(redis, partition, consumer="bench", result_ttl_s=600, max_dead_letters=100)
        self._group = Group(redis, reader, partition, consumer="bench", lease_s=600)

    async def join(self) -> None:
        """Make the group, as a consumer does."""
        await self._group.create()

    async def cycle(self) -> None:
        """A batch more is admitted, and the oldest one is read and completed: the backlog stays as it is."""
        await self.fill(_BATCH)
        done = []
        for delivery in await self._group.read(_BATCH):
            assert isinstance(delivery.entry, Entry)
            entry = delivery.entry
            outcome = Done(entry.id, "1", "pretended", (0,), (1.0,), batch=_BATCH, queue_ms=0, run_ms=0)
            done.append(Completed(delivery.entry_id, outcome, entry.reply))
        assert all(await self._completion.complete(done))


async def commands_us_of_an_image(redis: Redis, queues: dict[int, Queue], *, rounds: int) -> dict[int, list[float]]:
    """Microseconds of the server's commands for an image, by backlog: the queues take turns, round by round."""
    found: dict[int, list[float]] = {backlog: [] for backlog in queues}
    cycles = 10
    for _ in range(rounds):
        for backlog, queue in queues.items():
            before = await counters(redis)
            for _ in range(cycles):
                await queue.cycle()
            spent = (await counters(redis)).since(before)
            found[backlog].append(spent.commands_s * 1e6 / (cycles * _BATCH))
    return found


async def bytes_of_a_queued_image(redis: Redis, ingest_layer: IngestLayer, *, count: int) -> float:
    """Growth of the server's memory for each image, all keys that it brings included."""

    async def used() -> int:
        # With its connections go their buffers, which grow and shrink as they like.
        await redis.connection_pool.disconnect()
        return int((await redis.info("memory"))["used_memory"])

    await ingest_layer.fill(1)  # the script
    before = await used()
    await ingest_layer.fill(count)
    return (await used() - before) / count
