"""`python -m tests.chaos.kill_redis`: kill Redis's process on a busy disk, and count the accepted images that are lost.

Each round starts the embedded server, admits images as ingest does while another process keeps the disk busy, kills
the server without warning, starts it again and looks for every image whose admission was confirmed.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.admission import Admission, AdmissionRefused
from stream.connection.clients import connect
from stream.entry import Entry
from stream.keys import Partition
from stream.settings import Durability, RedisSettings

_SIDE = 224
_TASKS = 8
_POLL_S = 0.05

#: What keeps the disk busy: large writes, each followed by an fsync, on the same file system.
_BUSY = """
import os, sys
block = os.urandom(1 << 22)
while True:
    with open(sys.argv[1], "wb", buffering=0) as file:
        for _ in range(32):
            file.write(block)
        os.fsync(file.fileno())
"""


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
    settings = RedisSettings(data_dir=folder / "data", durability=durability, redis_timeout_s=30)
    with _busy_disk(folder / "busy") if busy else nullcontext():
        for _ in range(kills):
            asyncio.run(_round(settings, counts, images))
    return counts


@contextmanager
def _busy_disk(path: Path) -> Iterator[None]:
    writing = subprocess.Popen([sys.executable, "-c", _BUSY, str(path)])
    try:
        yield
    finally:
        writing.kill()
        writing.wait()
        path.unlink(missing_ok=True)


async def _round(settings: RedisSettings, counts: Counts, images: int) -> None:
    partition = Partition("killed")
    async with _serving(settings) as (redis, pid):
        await redis.delete(partition.entries)
        accepted = await _load(redis, partition, settings.durability, counts, images, pid)
    async with _serving(settings) as (redis, _):
        found = [await redis.exists(partition.request(one)) for one in accepted]
        assert await redis.xlen(partition.entries) >= sum(found), "each known request has its entry"
    counts.accepted += len(accepted)
    counts.lost += found.count(0)


@asynccontextmanager
async def _serving(settings: RedisSettings) -> AsyncIterator[tuple[Redis, int]]:
    """The embedded server, ended afterwards if it still runs: a client and the server's process id."""
    process = _started(settings)
    try:
        async with connect(settings) as redis:
            while not await _answers(redis):
                assert process.poll() is None, "the embedded server does not start"
                await asyncio.sleep(_POLL_S)
            about: Any = await redis.info("server")
            yield redis, int(about["process_id"])
    finally:
        process.terminate()
        process.wait()


def _started(settings: RedisSettings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stream", "--data-dir", str(settings.data_dir)]
    return subprocess.Popen([*command, "--durability", settings.durability])


async def _answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except RedisError:  # It starts, or reads its file.
        return False


async def _load(
    redis: Redis, partition: Partition, durability: Durability, counts: Counts, images: int, pid: int
) -> set[str]:
    admission = Admission(redis, partition, result_ttl_s=60, wait_s=1.0, durability=durability)
    pixels = os.urandom(_SIDE * _SIDE * 3)
    accepted: set[str] = set()
    enough = asyncio.Event()

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
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(*tasks)
    return accepted


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
