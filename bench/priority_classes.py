"""`python -m bench.priority_classes`: interactive images beside a full queue of bulk images, and consumers that die.

A consumer pretends to take 10 ms for each image, without the CPU, so that the figures are those of the queue. All times
are those of the outcomes: from acceptance to the end of the batch, by Redis's clock.
"""

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from redis.asyncio import Redis

from results.outcome import Done
from stream.connection.clients import connect
from stream.keys import Priority
from stream.settings import RedisSettings
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import TINY, assert_right, outcomes, random_images, send
from tests.support.redis.servers import Server

IMAGE_S: Final = 0.01
BATCH: Final = 32

_LEASE_S: Final = 1.5

#: Part of the capacity that the interactive images take.
_INTERACTIVE: Final = 0.2

#: Images of one class that are sent at a time: the queue must fill faster than it empties.
_AT_ONCE: Final = 20

#: Images whose batches began within this time were in one batch, in milliseconds.
_SAME_MS: Final = 25.0

_IMAGES: Final = random_images(50)


#: A request's id, the number of its image, and the times between which it was accepted (Unix ms).
_Sent = tuple[str, int, float, float]


@dataclass(frozen=True, slots=True)
class Ran:
    """One image: between which times it was accepted (Unix ms), how long it waited, and how long its batch ran (ms)."""

    accepted_ms: float
    accepted_by_ms: float
    queue_ms: float
    run_ms: float

    @property
    def began_ms(self) -> float:
        return self.accepted_ms + self.queue_ms

    @property
    def latency_ms(self) -> float:
        return self.queue_ms + self.run_ms


@dataclass(frozen=True, slots=True)
class Figures:
    """Interactive images alone and beside bulk images, and the bulk images; `seconds` until the last of these ended."""

    idle: Sequence[Ran]
    busy: Sequence[Ran]
    bulk: Sequence[Ran]
    seconds: float

    def p99_ms(self, which: Sequence[Ran]) -> float:
        return float(np.percentile([one.latency_ms for one in which], 99))

    def batches_waited_for(self, *, within_ms: float = math.inf) -> list[int]:
        """For each interactive image, how many batches of bulk images began between its acceptance and its own batch.

        In doubt, a batch is not counted: all that is known is between which times an image was accepted. Images that
        waited longer than `within_ms` are left out.
        """
        starts: list[float] = []
        for start in sorted((one.began_ms for one in self.bulk), reverse=True):
            if not starts or start < starts[-1] - _SAME_MS:
                starts.append(start)
        waited = (one for one in self.busy if one.queue_ms < within_ms)
        return [sum(one.accepted_by_ms < start < one.began_ms - _SAME_MS for start in starts) for one in waited]

    @property
    def longest_wait_ms(self) -> float:
        """The longest wait of an interactive image beside bulk images."""
        return max(one.queue_ms for one in self.busy)

    def bulk_part(self, capacity_per_s: float) -> float:
        """Bulk images for each that the interactive ones left room for."""
        return len(self.bulk) / (self.seconds * capacity_per_s - len(self.busy))


class Load:
    """Images straight into the streams. Each outcome is compared with what NumPy computes."""

    def __init__(self, client: Redis, *, consumers: int) -> None:
        self._client = client
        self.capacity_per_s = consumers / IMAGE_S
        self._sent = 0

    async def capacity(self, count: int) -> tuple[float, float]:
        """Images per second of one class alone in a full queue, and how long a batch ran there, in ms."""
        began_ms = await self._now_ms()
        ran = await self._ran(await self._send_many("interactive", count))
        per_s = count / (max(one.began_ms + one.run_ms for one in ran) - began_ms) * 1000
        return per_s, max(one.run_ms for one in ran)

    async def run(self, *, bulk: int, idle_s: float) -> Figures:
        until = time.monotonic() + idle_s
        idle = await self._interactive(lambda: time.monotonic() < until)
        began_ms = await self._now_ms()
        waiting = await self._send_many("bulk", bulk)
        stream = TINY.stream("bulk").key

        async def bulk_waits() -> bool:
            return bool(await self._client.xlen(stream))

        busy = await self._interactive(bulk_waits)
        ran = await self._ran(waiting)
        seconds = (max(one.began_ms + one.run_ms for one in ran) - began_ms) / 1000
        return Figures(await self._ran(idle), await self._ran(busy), ran, seconds)

    async def _interactive(self, go_on: Callable[[], bool | Awaitable[bool]]) -> list[_Sent]:
        """One image after the other, at a steady rate, as long as `go_on` holds."""
        sent: list[_Sent] = []
        pause_s = 1 / (_INTERACTIVE * self.capacity_per_s)
        due_s = time.monotonic()
        while True:
            answer = go_on()
            if not (answer if isinstance(answer, bool) else await answer):
                return sent
            sent.append(await self._send("interactive"))
            due_s += pause_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _send_many(self, priority: Priority, count: int) -> list[_Sent]:
        sent: list[_Sent] = []
        while len(sent) < count:
            sent += await asyncio.gather(*(self._send(priority) for _ in range(min(_AT_ONCE, count - len(sent)))))
        return sent

    async def _send(self, priority: Priority) -> _Sent:
        number = self._sent % len(_IMAGES)
        self._sent += 1
        before_ms = await self._now_ms()
        image = _IMAGES[number : number + 1]
        to = TINY.stream(priority)
        (request,) = await send(self._client, image, stream=to, timeout_s=600, without_consumers=True)
        return request, number, before_ms, await self._now_ms()

    async def _now_ms(self) -> float:
        seconds, microseconds = await self._client.time()
        return float(seconds * 1000 + microseconds / 1000)

    async def _ran(self, sent: Sequence[_Sent]) -> list[Ran]:
        found = await outcomes(self._client, [request for request, *_ in sent], timeout_s=300)
        ran = []
        for outcome, (_, number, before_ms, after_ms) in zip(found, sent, strict=True):
            assert_right(outcome, _IMAGES[number])
            assert isinstance(outcome, Done)
            ran.append(Ran(before_ms, after_ms, outcome.queue_ms, outcome.run_ms))
        return ran


def start_consumers(processes: Processes, count: int, *, lease_s: float = 10.0) -> list[Process]:
    """Consumers that take IMAGE_S for each image, once all are ready."""
    processes.share(ROGUE_IMAGE_S=str(IMAGE_S))
    started = [
        processes.consumer(rogue="slow", version=1, max_batch=BATCH, lease_s=lease_s, redis_timeout_s=1.0)
        for _ in range(count)
    ]
    return [one.ready() for one in started]


async def _kill_and_restart(processes: Processes, consumers: list[Process], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        consumers.pop(0).kill()
        consumers += await asyncio.to_thread(start_consumers, processes, 1, lease_s=_LEASE_S)


async def _measure(server: Server, processes: Processes, *, bulk: int, consumers: int, kill_every_s: float) -> None:
    running = start_consumers(processes, consumers, lease_s=_LEASE_S)
    async with connect(RedisSettings(redis_url=server.url)) as client:
        load = Load(client, consumers=consumers)
        capacity_per_s, batch_ms = await load.capacity(300 * consumers)
        killing = asyncio.create_task(_kill_and_restart(processes, running, kill_every_s)) if kill_every_s else None
        figures = await load.run(bulk=bulk, idle_s=10.0)
        if killing:
            killing.cancel()
    # Nobody else knew the images that a consumer died with, until its lease ended.
    waited_for = figures.batches_waited_for(within_ms=_LEASE_S * 1000 if kill_every_s else math.inf)
    sys.stdout.write(
        f"interactive images: {len(figures.idle)} alone, {len(figures.busy)} beside {len(figures.bulk)} bulk images\n"
        f"p99 alone {figures.p99_ms(figures.idle):.0f} ms, beside bulk {figures.p99_ms(figures.busy):.0f} ms, "
        f"one batch {batch_ms:.0f} ms\n"
        f"bulk images: {figures.bulk_part(capacity_per_s):.2f} of what the interactive ones left of "
        f"{capacity_per_s:.1f} images/s\n"
        f"batches of bulk images that began while an interactive image waited: {sum(waited_for)} for "
        f"{len(waited_for)} images, most {max(waited_for)}\n"
        f"longest wait of an interactive image {figures.longest_wait_ms:.0f} ms, one lease {_LEASE_S * 1000:.0f} ms\n"
        "lost 0, wrong 0\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.priority_classes")
    parser.add_argument("--bulk", type=int, default=900, metavar="N", help="bulk images in the queue")
    parser.add_argument("--consumers", type=int, default=1, metavar="N")
    parser.add_argument("--kill-every", type=float, default=0.0, metavar="SECONDS", help="kill a consumer so often")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model.build(folder / "models", version="1")
        server = Server(folder)
        server.start()
        try:
            with Processes(folder, redis_url=server.url, models_dir=folder / "models") as processes:
                asyncio.run(
                    _measure(server, processes, bulk=given.bulk, consumers=given.consumers,
                             kill_every_s=given.kill_every)
                )  # fmt: skip
        finally:
            server.kill()


if __name__ == "__main__":
    main()
