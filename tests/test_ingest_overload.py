"""Ten times more than the consumers can do: they stay busy, what is accepted is answered soon, the rest is told."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bench import load, uploads
from tests.processes import Processes
from tests.requests_direct import pictures
from tests.test_ingest_app import png, ranked

pytestmark = pytest.mark.anyio

#: What a slow consumer does in a second (tests/rogue_consumer.py: 50 ms an image).
CAPACITY = 20
SECONDS = 5
MAX_WAIT_S, MAX_BATCH_S = 2.0, 1.0


@pytest.mark.alone
async def test_goodput_stays_at_capacity_and_latency_bounded(processes: Processes, tmp_path: Path) -> None:
    """Open loop at 200 images/s: the consumer works 90 % of the time, 90 % of its images are answered right, and all
    of them within max_wait_s and a batch."""
    log = tmp_path / "runs"
    processes.share(ROGUE_LOG=str(log))
    processes.consumer(rogue="slow", version=1, max_batch_seconds=MAX_BATCH_S)
    _, url = processes.ingest(max_wait_s=MAX_WAIT_S)
    image = pictures(1)[0]
    body, truth = png(image), ranked(image)
    began_s = time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=30) as service:

        async def ask(at_s: float) -> httpx.Response:
            await asyncio.sleep(at_s)
            return await service.post("/predict", content=body)

        # By a process of its own that costs little: it would be no overload where the cores are busy with sending it.
        upload, port = uploads.bare("/predict", body), int(url.rpartition(":")[2])
        overload = asyncio.to_thread(load.open_loop, port, upload, rate=CAPACITY * 9, seconds=SECONDS)
        crowd = asyncio.create_task(overload)
        answers = await asyncio.gather(*(ask(number / CAPACITY) for number in range(CAPACITY * SECONDS)))
        others = await crowd
    taken = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert Counter(answer.status_code for answer in refused) == {503: len(refused)}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert all(answer.json()["predictions"] == truth for answer in taken)
    assert others.errors == 0
    runs = [run for run in read(log) if run.began_s > began_s]
    span_s = runs[-1].ended_s - runs[0].began_s
    # By its own word: when its answers come to busy clients is not in it.
    assert sum(run.ended_s - run.began_s for run in runs) >= 0.9 * span_s, "the consumer waited for images"
    assert len(taken) + others.requests >= 0.9 * sum(run.images for run in runs), "the consumer worked for nobody"
    # As ingest saw it: this client is late itself.
    assert max(served_s(answer) for answer in taken) < MAX_WAIT_S + MAX_BATCH_S + 1.5


@dataclass(frozen=True, slots=True)
class Run:
    """One batch of the slow consumer, in seconds of the monotonic clock."""

    images: int
    began_s: float
    ended_s: float


def read(log: Path) -> list[Run]:
    words = (line.split() for line in log.read_text().splitlines())
    return [Run(int(images), float(began_s), float(ended_s)) for images, began_s, ended_s in words]


def served_s(answer: httpx.Response) -> float:
    """Seconds from the request's arrival at ingest to its answer."""
    (total,) = re.findall(r"total;dur=([\d.]+)", answer.headers["server-timing"])
    return float(total) / 1000
