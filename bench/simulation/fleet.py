"""A fleet against full streams: servers, pretended consumers, and what each part used for an image."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from redis import Redis as Blocking
from redis.asyncio import Redis

from bench.full_stream import server
from bench.processes import Processes
from bench.simulation.device import model_name
from bench.simulation.queue import Counters, Queue, counters
from stream.connection import connect
from stream.embedded import socket_path
from stream.keys import Partition
from stream.reader import Reader
from stream.settings import Settings

#: Processes that the consumers of a fleet share, at most: this machine has no more cores.
_PROCESSES = 2

_PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Consumers with a device each, over streams that are spread over servers."""

    consumers: int
    streams: int = 1
    servers: int = 1
    batch_ms: float = 100.0
    images: int = 2000
    size: int = 224


@dataclass(frozen=True, slots=True)
class Drain:
    """How fast a fleet worked its streams off, and what an image cost: CPU in microseconds, bytes on the network.

    `redis_us` holds its whole way: admission, measured while the streams were filled, and the rest.
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
    with _servers(folder, fleet.servers) as data:
        return asyncio.run(_drain(fleet, data, folder))


@contextmanager
def _servers(folder: Path, count: int) -> Iterator[list[Path]]:
    """So many servers as `python -m stream` runs them; the folders of their data."""
    if count == 0:
        yield []
        return
    own = folder / f"server-{count}"
    own.mkdir(parents=True, exist_ok=True)
    with server(own), _servers(folder, count - 1) as others:
        yield [*others, own / "data"]


async def _drain(fleet: Fleet, data: Sequence[Path], folder: Path) -> Drain:
    servers = [Settings(data_dir=one, redis_timeout_s=20, lease_s=60) for one in data]
    clients, readers = [connect(one) for one in servers], [Reader(one) for one in servers]
    queues = [
        Queue(
            clients[number % fleet.servers],
            readers[number % fleet.servers],
            Partition(model_name(number)),
            size=fleet.size,
        )
        for number in range(fleet.streams)
    ]
    processes = Processes(folder / "consumers.log")
    try:
        admitted, admitting_s = await _fill(fleet, queues, clients)
        _start(fleet, data, processes)
        left = await _until(fleet, data, processes, most=int(fleet.images * 0.9))
        began, before, used_s = time.perf_counter(), await counters(*clients), processes.cpu_s()
        images = left - await _until(fleet, data, processes, most=int(fleet.images * 0.1))
        seconds, used_s = time.perf_counter() - began, processes.cpu_s() - used_s
        spent = (await counters(*clients)).since(before)
    finally:
        processes.stop()
        for client, reader in zip(clients, readers, strict=True):
            await client.aclose()
            await reader.aclose()
    return Drain(
        fleet,
        admitted_per_s=fleet.images / admitting_s,
        images_per_s=images / seconds,
        redis_us=admitted.cpu_s * 1e6 / fleet.images + spent.cpu_s * 1e6 / images,
        consumer_us=used_s * 1e6 / images,
        bytes_in=admitted.bytes_in / fleet.images + spent.bytes_in / images,
        bytes_out=admitted.bytes_out / fleet.images + spent.bytes_out / images,
    )


async def _fill(fleet: Fleet, queues: Sequence[Queue], clients: Sequence[Redis]) -> tuple[Counters, float]:
    """Fill all streams alike; what the servers used for that, and the seconds it took."""
    before, began = await counters(*clients), time.perf_counter()
    await asyncio.gather(*(queue.fill(fleet.images // fleet.streams) for queue in queues))
    spent, seconds = (await counters(*clients)).since(before), time.perf_counter() - began
    # The append-only file is rewritten as it grows, in a process of its own on the same cores.
    while any([(await one.info("persistence"))["aof_rewrite_in_progress"] for one in clients]):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return spent, seconds


def _start(fleet: Fleet, data: Sequence[Path], processes: Processes) -> None:
    """Consumers in turn over the streams, and so over the servers; each process serves one server."""
    for place, folder in enumerate(data):
        own = [number for number in range(fleet.consumers) if number % fleet.streams % fleet.servers == place]
        shares = max(1, min(len(own), _PROCESSES // fleet.servers))
        for share in range(shares):
            numbers = ",".join(str(number) for number in own[share::shares])
            if numbers:
                options = ["--numbers", numbers, "--streams", str(fleet.streams), "--size", str(fleet.size)]
                url = f"unix://{quote(str(socket_path(folder)))}"
                command = [sys.executable, "-m", "bench.simulation.device", "--redis-url", url, *options]
                processes.start([*command, "--batch-ms", str(fleet.batch_ms)], {})


async def _until(fleet: Fleet, data: Sequence[Path], processes: Processes, *, most: int) -> int:
    """Wait until at most so many images are left in all streams; how many they are."""
    clients = [Blocking(unix_socket_path=str(socket_path(one))) for one in data]
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                entries = [Partition(model_name(number)).entries for number in range(fleet.streams)]
                left = sum(clients[number % fleet.servers].xlen(one) for number, one in enumerate(entries))
                if left <= most:
                    return left
                assert processes.running, processes.log.read_text()[-2000:]
                await asyncio.sleep(0.005)
    finally:
        for client in clients:
            client.close()
