"""A fleet against a full queue: servers, pretended consumers, and what each part used for an image."""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from bench.measure.processes import Processes
from bench.simulation.queue import Counters, IngestLayer, counters
from bench.simulation.servers import Servers, partitions, started
from stream.connection.clients import Connections
from stream.keys import Partition
from stream.settings import RedisSettings

#: Processes that the consumers of a fleet share, at most: this machine has no more cores.
_PROCESSES = 2

_PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Consumers with a device each, which serve all partitions; these lie on one server or on a Cluster's primaries.

    `durable` servers write their append-only file; `throttled` ones run a fifth of the time each, in turns.
    """

    consumers: int
    partitions: int = 1
    primaries: int = 1
    durable: bool = True
    throttled: bool = False
    batch_ms: float = 100.0
    images: int = 2000
    size: int = 224


@dataclass(frozen=True, slots=True)
class Drain:
    """How fast a fleet worked its queue off, and what an image cost: CPU in microseconds, bytes on the network.

    `redis_us` holds its whole way: admission, measured while the queue was filled, and the rest.
    """

    fleet: Fleet
    admitted_per_s: float
    images_per_s: float
    redis_us: float
    consumer_us: float
    bytes_in: float
    bytes_out: float

    @property
    def through_per_s(self) -> float:
        """Images that go the whole way, from XADD to XACK, each half at a time of its own."""
        return 1 / (1 / self.admitted_per_s + 1 / self.images_per_s)

    @property
    def of_the_devices(self) -> float:
        """The share of what the devices alone could do."""
        return self.images_per_s / (self.fleet.consumers * 32_000 / self.fleet.batch_ms)


def drain(fleet: Fleet, folder: Path) -> Drain:
    """Fill, start the consumers, and measure between a tenth and nine tenths of the work."""
    with started(folder / "redis", fleet.primaries, durable=fleet.durable) as servers:
        return uvloop.run(work_off(fleet, servers, folder))


async def work_off(fleet: Fleet, servers: Servers, folder: Path) -> Drain:
    """`drain`, with servers that run already. What is left in the end stays in the queue, in nobody's hands."""
    settings = RedisSettings(redis_url=servers.redis_url, redis_timeout_s=20)
    processes, throttle = Processes(folder / "consumers.log"), Processes(folder / "throttle.log")
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Redis(port=port)) for port in servers.ports]
        stack.callback(processes.stop)
        if fleet.throttled:
            stack.callback(throttle.stop)
            pids = [str((await one.info("server"))["process_id"]) for one in nodes]
            throttle.start([sys.executable, "-m", "bench.simulation.throttle", *pids], {})
        connections = await stack.enter_async_context(Connections(settings))
        queue = [(one, connections.client_for(one)) for one in partitions(fleet.partitions)]
        admitted, admitting_s = await _fill(fleet, queue, nodes)
        _start(fleet, queue[0][0].model, servers, processes)
        left = await _until(queue, processes, most=int(fleet.images * 0.9))
        began, before, used_s = time.perf_counter(), await counters(*nodes), processes.cpu_s()
        images = left - await _until(queue, processes, most=int(fleet.images * 0.1))
        seconds, used_s = time.perf_counter() - began, processes.cpu_s() - used_s
        spent = (await counters(*nodes)).since(before)
    return Drain(
        fleet,
        admitted_per_s=fleet.images / admitting_s,
        images_per_s=images / seconds,
        redis_us=admitted.cpu_s * 1e6 / fleet.images + spent.cpu_s * 1e6 / images,
        consumer_us=used_s * 1e6 / images,
        bytes_in=admitted.bytes_in / fleet.images + spent.bytes_in / images,
        bytes_out=admitted.bytes_out / fleet.images + spent.bytes_out / images,
    )


async def _fill(
    fleet: Fleet, queue: Sequence[tuple[Partition, Redis]], nodes: Sequence[Redis]
) -> tuple[Counters, float]:
    """Fill all partitions alike; what the servers used for that, and the seconds it took."""
    ingest_layers = [IngestLayer(redis, one, size=fleet.size) for one, redis in queue]
    before, began = await counters(*nodes), time.perf_counter()
    await asyncio.gather(*(ingest_layer.fill(fleet.images // fleet.partitions) for ingest_layer in ingest_layers))
    spent, seconds = (await counters(*nodes)).since(before), time.perf_counter() - began
    # The append-only file is rewritten as it grows, in a process of its own on the same cores.
    while any([(await one.info("persistence"))["aof_rewrite_in_progress"] for one in nodes]):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return spent, seconds


def _start(fleet: Fleet, model: str, servers: Servers, processes: Processes) -> None:
    """As many consumers in each process."""
    options = {"redis-url": servers.redis_url, "model": model, "partitions": fleet.partitions, "size": fleet.size}
    options |= {"batch-ms": fleet.batch_ms}
    count = min(fleet.consumers, _PROCESSES)
    for number in range(count):
        share = len(range(number, fleet.consumers, count))
        words = [f"--{name}={value}" for name, value in (options | {"consumers": share}).items()]
        processes.start([sys.executable, "-m", "bench.simulation.device", *words], {})


async def _until(queue: Sequence[tuple[Partition, Redis]], processes: Processes, *, most: int) -> int:
    """Wait until at most so many images are left in all partitions; how many they are."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            left = sum([await redis.xlen(one.entries) for one, redis in queue])
            if left <= most:
                return left
            assert processes.running, processes.log.read_text()[-2000:]
            await asyncio.sleep(0.005)
