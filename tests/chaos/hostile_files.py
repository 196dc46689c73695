"""`python -m tests.chaos.hostile_files`: what the most expensive files cost those who send ordinary images meanwhile.

Ordinary images come at a third of the measured capacity: alone, then while ten clients send hostile files, at least 50
and until the load ends, and then while they send as many bytes as often that are no image. The last one shows what it
costs to receive them. Exit status 1 if hostile files more than double the 99th percentile.
"""

import argparse
import asyncio
import itertools
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench import images, models
from bench.measure import load, uploads
from bench.measure.load import Sample
from tests.chaos.server.embedded_server import EmbeddedServer
from tests.support import hostile_images
from tests.support.processes import Processes

_FILES = 50
_CLIENTS = 10
_SHARE = 1 / 3

_ALONE, _HOSTILE = "alone", "while hostile files are sent"


@contextmanager
def _service(folder: Path) -> Iterator[int]:
    """A service with two workers of ingest and a consumer; its port."""
    models.build(folder / "models")
    server = EmbeddedServer(folder)
    server.start()
    try:
        with Processes(folder, redis_url=server.url, models_dir=folder / "models") as started:
            started.consumer(model=models.NAME)
            _, url = started.ingest(model=models.NAME, workers=2)
            yield httpx.URL(url).port or 80
    finally:
        server.kill_all()


async def _send(port: int, files: list[bytes], load_ended: asyncio.Event, per_s: float = math.inf) -> Counter[int]:
    """All files, one after the other and again, until 50 are sent and the load has ended. Returns the statuses."""
    numbers = itertools.count()
    statuses: Counter[int] = Counter()
    began_s = time.perf_counter()

    async def work(http: httpx.AsyncClient) -> None:
        while (number := next(numbers)) < _FILES or not load_ended.is_set():
            await asyncio.sleep(max(0.0, began_s + number / per_s - time.perf_counter()))
            response = await http.post(f"http://127.0.0.1:{port}/predict", content=files[number % len(files)])
            statuses[response.status_code] += 1

    async with httpx.AsyncClient(timeout=120) as http:
        await asyncio.gather(*(work(http) for _ in range(_CLIENTS)))
    return statuses


async def _measure(port: int, seconds: float) -> tuple[dict[str, Sample], Counter[int]]:
    # To make the files takes a core for 13 seconds, which would count as their effect.
    files = [make() for make in hostile_images.ALL.values()]
    upload = uploads.form("/predict", images.small())
    capacity = await asyncio.to_thread(load.closed, port, upload, clients=16, seconds=5)
    rate = capacity.per_s * _SHARE

    def ordinary() -> Sample:
        return load.open_loop(port, upload, rate=rate, seconds=seconds, connections=64)

    async def beside(files: list[bytes], per_s: float = math.inf) -> tuple[Sample, Counter[int]]:
        load_ended = asyncio.Event()
        sending = asyncio.create_task(_send(port, files, load_ended, per_s))
        sample = await asyncio.to_thread(ordinary)
        load_ended.set()
        return sample, await sending

    alone = await asyncio.to_thread(ordinary)
    began_s = time.perf_counter()
    hostile, statuses = await beside(files)
    per_s = statuses.total() / (time.perf_counter() - began_s)
    harmless, _ = await beside([bytes(len(file)) for file in files], per_s)
    return {_ALONE: alone, "while the same bytes are sent, but no image": harmless, _HOSTILE: hostile}, statuses


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.hostile_files", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each of the three loads")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-hostile-") as folder, _service(Path(folder)) as port:
        samples, statuses = asyncio.run(_measure(port, given.seconds))
    lines = ["| ordinary images | p50 | p99 | answered | refused | errors |", "| --- | --- | --- | --- | --- | --- |"]
    for name, one in samples.items():
        figures = f"{one.p50_ms:.1f} ms | {one.p99_ms:.1f} ms | {one.requests} | {one.refused} | {one.errors}"
        lines.append(f"| {name} | {figures} |")
    responses = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    sys.stdout.write("\n".join([*lines, "", f"Responses to the hostile files: {responses}.", ""]))
    return 1 if samples[_HOSTILE].p99_ms > 2 * samples[_ALONE].p99_ms else 0


if __name__ == "__main__":
    sys.exit(main())
