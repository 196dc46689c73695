"""Ten times more than the consumers can do: they stay busy, what is accepted is answered soon, the rest is told."""

import asyncio
import re
import time
from collections import Counter

import httpx
import pytest

from tests.processes import Processes
from tests.requests_direct import pictures
from tests.test_ingest_app import png, ranked

pytestmark = pytest.mark.anyio

#: What a slow consumer does in a second (tests/rogue_consumer.py: 50 ms an image).
CAPACITY = 20
SECONDS = 5
MAX_WAIT_S, MAX_BATCH_S = 2.0, 1.0


@pytest.mark.alone
async def test_goodput_stays_at_capacity_and_latency_bounded(processes: Processes) -> None:
    """Open loop at 200 images/s: at least 90 % of the capacity is answered right, within max_wait_s and a batch."""
    processes.consumer(rogue="slow", version=1, max_batch_seconds=MAX_BATCH_S)
    _, url = processes.ingest(max_wait_s=MAX_WAIT_S)
    image = pictures(1)[0]
    body, truth = png(image), ranked(image)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=400)) as service:

        async def ask(at_s: float) -> tuple[httpx.Response, float]:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=at_s)
            return await service.post("/predict", content=body), time.monotonic()

        began = time.monotonic()
        offered = SECONDS * CAPACITY * 10
        answers = await asyncio.gather(*(ask(number / (CAPACITY * 10)) for number in range(offered)))
    taken = [(answer, at_s) for answer, at_s in answers if answer.status_code == 200]
    refused = [answer for answer, _ in answers if answer.status_code != 200]
    assert Counter(answer.status_code for answer in refused) == {503: len(refused)}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert all(answer.json()["predictions"] == truth for answer, _ in taken)
    in_time = sum(at_s - began <= SECONDS for _, at_s in taken)
    assert in_time >= 0.9 * CAPACITY * (SECONDS - 1), "the first second fills the queue"
    # As ingest saw it: this client shares the cores with what it overloads, and is late itself.
    assert max(served_s(answer) for answer, _ in taken) < MAX_WAIT_S + MAX_BATCH_S + 1.5


def served_s(answer: httpx.Response) -> float:
    """Seconds from the request's arrival at ingest to its answer."""
    (total,) = re.findall(r"total;dur=([\d.]+)", answer.headers["server-timing"])
    return float(total) / 1000
