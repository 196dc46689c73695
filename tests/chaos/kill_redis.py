"""`python -m tests.chaos.kill_redis`: kill Redis's process on a busy disk, and count the accepted images that are lost.

Each round starts the embedded server, admits images as ingest does while another process keeps the disk busy, kills
the server without warning, starts it again and looks for every image whose admission was confirmed. The drill of
`make chaos` does the same to a whole system; here it is admission alone, as fast as it can, with its times.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from stream.admission import Admission, AdmissionRefused
from stream.connection.clients import connect
from stream.entry import Entry
from stream.keys import Partition
from stream.settings import Durability, RedisSettings
from tests.chaos.server.busy_disk import busy_disk
from tests.chaos.server.embedded_server import EmbeddedServer

_SIDE = 224
_TASKS = 8
_PARTITION = Partition("killed")


@dataclass
class Counts:
    """Admissions over all rounds; times in seconds."""

    accepted: int = 0
    lost: int = 0
    waits_s: list[float] = field(default_factory=list)

    def summary(self) -> str:
        waits = sorted(self.waits_s) or [0.0]
        p99 = waits[int(0.99 * (len(waits) - 1))]
        return (
            f"accepted {self.accepted}, lost {self.lost}; admission median {statistics.median(waits) * 1e3:.1f} ms, "
            f"99th percentile {p99 * 1e3:.1f} ms, longest {waits[-1] * 1e3:.0f} ms"
        )


def measure(folder: Path, *, kills: int, durability: Durability, images: int, busy: bool = True) -> Counts:
    """So many rounds; the kill follows when `images` are accepted."""
    counts = Counts()
    server = EmbeddedServer(folder, durability=durability)
    try:
        with busy_disk(folder) if busy else nullcontext():
            for _ in range(kills):
                server.start()
                accepted = asyncio.run(_load(server, counts, images))
                server.start()
                asyncio.run(_count(server, counts, accepted))
                server.kill()
    finally:
        server.kill_all()
    return counts


async def _load(server: EmbeddedServer, counts: Counts, images: int) -> set[str]:
    """Admit until the server is killed; returns the ids of those that were confirmed."""
    settings = RedisSettings(redis_url=server.url, redis_timeout_s=30)
    pixels = os.urandom(_SIDE * _SIDE * 3)
    accepted: set[str] = set()
    enough = asyncio.Event()
    async with connect(settings) as redis:
        admission = Admission(redis, _PARTITION, result_ttl_s=60, wait_s=1.0, durability=server.durability)

        async def admit() -> None:
            with suppress(RedisError, AdmissionRefused):
                while True:
                    entry = Entry(uuid.uuid4().hex, "", 5, _SIDE, _SIDE, pixels)
                    began = time.perf_counter()
                    await admission.admit(entry, timeout_s=60, max_backlog=1_000_000, without_consumers=True)
                    counts.waits_s.append(time.perf_counter() - began)
                    accepted.add(entry.id)
                    if len(accepted) >= images:
                        enough.set()

        tasks = [asyncio.create_task(admit()) for _ in range(_TASKS)]
        await enough.wait()
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*tasks)
    return accepted


async def _count(server: EmbeddedServer, counts: Counts, accepted: set[str]) -> None:
    async with connect(RedisSettings(redis_url=server.url, redis_timeout_s=30)) as redis:
        found = [await redis.exists(_PARTITION.request(one)) for one in accepted]
        assert await redis.xlen(_PARTITION.entries) >= sum(found), "each known request has its entry"
        await redis.delete(_PARTITION.entries)
    counts.accepted += len(accepted)
    counts.lost += found.count(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill_redis", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--durability", choices=("memory", "process", "disk"), default="process")
    parser.add_argument("--images", type=int, default=1000, help="images accepted before each kill")
    parser.add_argument("--calm", action="store_true", help="leave the disk alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(
            Path(folder), kills=given.kills, durability=given.durability, images=given.images, busy=not given.calm
        )
    sys.stdout.write(f"{given.durability}, {given.kills} kills: {counts.summary()}\n")
    if given.durability != "memory" and counts.lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
