"""Shares decoding workers among the images that wait, the cheapest image first.

Workers start when an image needs one, and stop when none has for a while. A pool may keep its first one running.
"""

import asyncio
import itertools
import logging
import time
from bisect import bisect_right, insort
from heapq import heappop, heappush
from typing import Final

from ingest.errors import DamagedImage, Overloaded
from ingest.images.worker_process import DecodeLimits, Worker, WorkerEnded
from stream.model import ModelDescription

logger = logging.getLogger(__name__)

#: Seconds until a worker must have started. It takes 0.2 s if the cores are free.
_START_S: Final = 20.0

#: Weight of the newest image in the mean of real by estimated seconds, and the bounds of that mean.
_NEWEST: Final = 0.1
_LEAST_RATIO, _MOST_RATIO = 0.25, 20.0

#: Even a tiny image takes this long, in seconds.
_LEAST_S: Final = 0.001


class OutOfTime(Exception):
    """The image takes more CPU time than it was given."""


class WorkerPool:
    """Some workers, and the images that wait for them: at the measured speed, for at most `limits.wait_s`.

    `keep_one` keeps a worker running, so that no image has to wait until one has started.
    """

    def __init__(self, limits: DecodeLimits, *, workers: int, niceness: int, keep_one: bool = False) -> None:
        self._limits = limits
        self._workers = [Worker(limits, niceness, keep=keep_one and number == 0) for number in range(workers)]
        #: Numbers of the workers that are free. The first of those that run is taken, so that the others may stop.
        self._free: list[int] = []
        self._stopped = set(range(workers))
        self._starter: asyncio.Task[OSError | None] | None = None
        #: Images that wait: estimated seconds, a number that counts up, and what gets the number of a worker.
        self._waiting: list[tuple[float, int, asyncio.Future[int]]] = []
        self._count = itertools.count()
        #: Estimated seconds of the images that wait or are being decoded, in order.
        self._pending_s: list[float] = []
        self._ratio = 1.0

    async def decode(
        self, data: bytes, model: ModelDescription, estimated_s: float, *, cpu_s: float | None = None
    ) -> tuple[bytes, float]:
        """The pixels of the model's input, and how many seconds they took, without waiting.

        Raises Problem, and OutOfTime beyond `cpu_s` if it is given. Otherwise the limit of the settings holds.
        """
        expected_s = sum(self._pending_s[: bisect_right(self._pending_s, estimated_s)]) * self._ratio
        expected_s /= len(self._workers)
        if expected_s and expected_s + estimated_s * self._ratio > self._limits.wait_s:
            raise _overloaded(expected_s)
        insort(self._pending_s, estimated_s)
        try:
            await self.start()
            async with asyncio.timeout(self._limits.wait_s):
                return await self._run(data, model, estimated_s, cpu_s or self._limits.cpu_s)
        except TimeoutError:
            raise _overloaded(expected_s) from None
        except OutOfTime:
            if cpu_s:
                raise
            raise self._too_slow() from None
        finally:
            self._pending_s.remove(estimated_s)

    async def start(self) -> None:
        """Start a worker if none runs. The time for that counts for no image. Raises Overloaded if none can start."""
        if any(worker.is_running for worker in self._workers):
            return
        self._start_another()
        if self._starter and (error := await asyncio.shield(self._starter)):
            raise _no_process(error)

    def _start_another(self) -> None:
        if self._stopped and (self._starter is None or self._starter.done()):
            number = min(self._stopped)
            self._stopped.remove(number)
            self._starter = asyncio.create_task(self._start(number))

    async def _start(self, number: int) -> OSError | None:
        """Start a worker and make it available. Returns why it does not start."""
        try:
            async with asyncio.timeout(_START_S):
                await self._workers[number].start()
        except OSError as error:
            return error
        finally:
            self._release(number)
        return None

    def _release(self, number: int) -> None:
        if self._workers[number].is_running:
            heappush(self._free, number)
        else:
            self._stopped.add(number)
        self._assign()

    def _assign(self) -> None:
        """Give the free workers to the cheapest images that wait. If images are left, start another worker."""
        while self._waiting:
            _, _, image = self._waiting[0]
            if image.done():  # It waits no longer.
                heappop(self._waiting)
                continue
            if (number := self._next_free()) is None:
                self._start_another()
                return
            image.set_result(number)

    def _next_free(self) -> int | None:
        while self._free:
            number = heappop(self._free)
            if self._workers[number].is_running:
                return number
            self._stopped.add(number)
        return None

    async def _acquire(self, estimated_s: float) -> int:
        """A free worker that runs. If there is none, another one starts, and whichever is free first is taken."""
        image: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (estimated_s, next(self._count), image))
        self._assign()
        try:
            return await image
        except asyncio.CancelledError:
            if image.done() and not image.cancelled():
                self._release(image.result())
            raise
        finally:
            self._assign()

    async def _run(self, data: bytes, model: ModelDescription, estimated_s: float, cpu_s: float) -> tuple[bytes, float]:
        number = await self._acquire(estimated_s)
        began = time.perf_counter()
        try:
            pixels = await _with_retry(self._workers[number], data, model, cpu_s)
        except OSError as error:
            raise _no_process(error) from error
        finally:
            self._release(number)
        seconds = time.perf_counter() - began
        ratio = min(max(seconds / max(estimated_s, _LEAST_S), _LEAST_RATIO), _MOST_RATIO)
        self._ratio = (1 - _NEWEST) * self._ratio + _NEWEST * ratio
        return pixels, seconds

    def _too_slow(self) -> DamagedImage:
        return DamagedImage(
            f"The image takes over {self._limits.cpu_s:g} s to decode. Scale it down, or save it as a baseline JPEG."
        )

    async def aclose(self) -> None:
        """End all workers."""
        if self._starter:
            self._starter.cancel()
        for worker in self._workers:
            if process := worker.stop():
                await process.wait()


async def _with_retry(worker: Worker, data: bytes, model: ModelDescription, cpu_s: float) -> bytes:
    """Once more if the worker ended: it may have been killed for a reason that is not the image."""
    for last in (False, True):
        try:
            return await worker.decode(data, model, cpu_s)
        except WorkerEnded as ended:
            if ended.out_of_time:
                raise OutOfTime from ended
            if last:
                raise DamagedImage("The decoder crashes on this file. Save the image again.") from ended
    raise AssertionError


def _no_process(error: OSError) -> Overloaded:
    logger.warning("cannot start a decoding process: %s", error)
    return Overloaded("No decoding process can start. Send the image again later.", retry_after_s=1)


def _overloaded(expected_s: float) -> Overloaded:
    return Overloaded(
        "Images that wait to be decoded would take too long. Send the image again after the time in Retry-After.",
        retry_after_s=max(1.0, expected_s),
    )
