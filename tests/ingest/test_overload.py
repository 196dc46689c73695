"""Ten times more than the consumers can do: they stay busy, what is accepted is answered soon, the rest is refused."""

import asyncio
import re
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from bench.measure import load, uploads
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images

pytestmark = pytest.mark.anyio

#: What a slow consumer does in a second (tests/support/programs/rogue_consumer.py: 50 ms an image).
CAPACITY = 20
SECONDS = 5
MAX_WAIT_S, MAX_BATCH_S = 2.0, 1.0


@pytest.mark.alone
async def test_goodput_stays_at_capacity_and_latency_bounded(processes: Processes, tmp_path: Path) -> None:
    """Open loop at 200 images/s: at least 90 % of the capacity is answered. A tenth of the answers are looked at: all
    are right, and came within max_wait_s and a batch."""
    log = tmp_path / "runs"
    processes.share(ROGUE_LOG=str(log))
    processes.consumer(rogue="slow", version=1, max_batch_s=MAX_BATCH_S)
    _, url = processes.ingest(max_wait_s=MAX_WAIT_S)
    image = random_images(1)[0]
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
    runs = np.loadtxt(log, ndmin=2)
    images, run_began_s, run_ended_s = runs[runs[:, 1] > began_s].T
    # By the consumer's own word: when answers come to busy clients is not in it.
    busy = (run_ended_s - run_began_s).sum() / (run_ended_s[-1] - run_began_s[0])
    useful = (len(taken) + others.requests) / images.sum()
    assert busy * useful >= 0.9, f"the consumer ran for {busy:.0%} of the time, {useful:.0%} of it for an answer"
    # As ingest saw it: this client is late itself.
    assert max(served_s(answer) for answer in taken) < MAX_WAIT_S + MAX_BATCH_S + 1.5


def served_s(answer: httpx.Response) -> float:
    """Seconds from the request's arrival at ingest to its answer."""
    (total,) = re.findall(r"total;dur=([\d.]+)", answer.headers["server-timing"])
    return float(total) / 1000
