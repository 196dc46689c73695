"""Decodes images, each where its cost allows: on the event loop, in a thread, or in a worker process.

| image | decoded |
| --- | --- |
| small baseline JPEG, if there is one thread | on the event loop |
| other JPEG of moderate cost | in a thread |
| any other format of moderate cost | in a worker process |
| more expensive, whatever the format | in a worker process of lower priority, one at a time, the cheapest first |

A file of moderate cost that takes longer than its header says counts as expensive from then on.

The cost comes from the header, before memory is taken. An image above the limits is refused. All limits together bound
what waits: by number, by time and by bytes.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from ingest.backpressure import BacklogLimit
from ingest.errors import DamagedImage, Overloaded, TooManyPixels
from ingest.images.cost import Cost
from ingest.images.decode import EncodedImage, NeedsPillow
from ingest.images.worker_pool import OutOfTime, WorkerPool
from ingest.images.worker_process import DecodeLimits
from ingest.metrics import DECODE
from ingest.request_trace import Stage
from ingest.uploads import Upload
from stream.keys import PRIORITIES, Priority
from stream.model import ModelDescription

#: Weight of the newest image in the running mean of the time for one. About the last twenty images count.
_NEWEST: Final = 0.1

#: Up to this cost, an image is decoded beside others: a baseline JPEG of 18 megapixels and 5 MB, or a PNG of 3
#: megapixels. The estimate for a JPEG is an upper bound, whatever the file.
_MODERATE_BYTES: Final = 96 * 2**20
_MODERATE_JPEG_S: Final = 0.15
_MODERATE_S: Final = 0.08
#: CPU time after which an image of another format is not moderate, whatever its header says. It is then decoded again,
#: and both together must stay below two seconds by default.
_MODERATE_CPU_S: Final = 0.2

#: The priority of expensive images: about a tenth of a core that others want, all of one that is free.
_LOW_PRIORITY: Final = 10


class Decoder:
    """Turns uploads into pixels. The decoders release the GIL.

    If there is one thread, the event loop decodes small JPEGs itself, one per iteration. To hand such an image to a
    thread and back would add a tenth to its time.

    `backlog` limits the images that wait by number and, at the measured speed, by time. `max_bytes` limits the size of
    their files. An image is accepted whatever its size if no other one waits. Each priority class has these limits to
    itself, and only as many bulk images as there are threads may stand before an interactive one.
    """

    def __init__(self, *, threads: int, backlog: BacklogLimit, max_bytes: int, limits: DecodeLimits) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._workers = WorkerPool(limits, workers=threads, niceness=0, keep_one=True)
        self._expensive = WorkerPool(limits, workers=1, niceness=_LOW_PRIORITY)
        self._threads = threads
        self._backlog = backlog
        self._max_bytes = max_bytes
        self._limits = limits
        self._inline_lock = asyncio.Lock()
        self._bulk_slots = asyncio.Semaphore(threads)
        self._pending: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._pending_bytes: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._image_s = 0.0

    async def start(self) -> None:
        """Start the worker process for the images that no thread decodes, before the first one comes."""
        with suppress(Overloaded):
            await self._workers.start()

    @property
    def remaining_s(self) -> float:
        """How long the images that wait will keep the threads busy, at the measured speed."""
        return sum(self._pending.values()) * self._image_s / self._threads

    async def decode(self, upload: Upload, model: ModelDescription, priority: Priority = "interactive") -> bytes:
        """The image as uint8 [height, width, channels]. Raises a Problem."""
        size = len(upload.data)
        self._refuse_if_full(size, priority)
        self._pending[priority] += 1
        self._pending_bytes[priority] += size
        began = time.perf_counter()
        try:
            with Stage("decode"):
                if priority == "interactive":
                    return await self._run(EncodedImage(upload.data), model)
                async with self._bulk_slots:
                    return await self._run(EncodedImage(upload.data), model)
        finally:
            self._pending[priority] -= 1
            self._pending_bytes[priority] -= size
            DECODE.observe(time.perf_counter() - began)

    def _refuse_if_full(self, size: int, priority: Priority) -> None:
        pending = self._pending[priority]
        too_many = pending >= self._backlog.limit
        too_large = pending > 0 and self._pending_bytes[priority] + size > self._max_bytes
        if too_many or too_large:
            raise Overloaded(
                f"{pending} images wait to be decoded. Send the image again after the time in Retry-After.",
                retry_after_s=self._backlog.retry_after_s(pending),
            )

    async def _run(self, image: EncodedImage, model: ModelDescription) -> bytes:
        if self._threads == 1 and image.is_quick:
            with suppress(NeedsPillow):
                return await self._inline(image, model)
        cost = image.cost(model, self._limits.max_pixels)
        self._refuse_if_expensive(image, cost)
        most_s = _MODERATE_JPEG_S if image.kind == "JPEG" else _MODERATE_S
        is_moderate = cost.memory_bytes <= _MODERATE_BYTES and cost.seconds <= most_s
        if is_moderate and image.kind == "JPEG":
            with suppress(NeedsPillow):
                return await self._in_thread(image, model)
        if is_moderate:
            with suppress(OutOfTime):
                pixels, seconds = await self._workers.decode(image.data, model, cost.seconds, cpu_s=_MODERATE_CPU_S)
                self._update_mean(seconds)
                return pixels
            pixels, _ = await self._expensive.decode(image.data, model, self._limits.cpu_s)
            return pixels
        pixels, _ = await self._expensive.decode(image.data, model, cost.seconds)
        return pixels

    async def _inline(self, image: EncodedImage, model: ModelDescription) -> bytes:
        async with self._inline_lock:
            # Other requests that have arrived are read first, and wait for the lock. That counts as this image's time.
            began = time.perf_counter()
            await asyncio.sleep(0)
            pixels = image.to_pixels(model, self._limits.max_pixels, by_pillow=False)
            self._update_mean(time.perf_counter() - began)
            return pixels

    async def _in_thread(self, image: EncodedImage, model: ModelDescription) -> bytes:
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._timed, image, model)
        try:
            async with asyncio.timeout(self._limits.wait_s):
                pixels, seconds = await work
        except TimeoutError:
            raise Overloaded(
                "Images that wait to be decoded take too long. Send the image again after the time in Retry-After.",
                retry_after_s=self._backlog.retry_after_s(sum(self._pending.values())),
            ) from None
        self._update_mean(seconds)
        return pixels

    def _timed(self, image: EncodedImage, model: ModelDescription) -> tuple[bytes, float]:
        began = time.perf_counter()
        return image.to_pixels(model, self._limits.max_pixels, by_pillow=False), time.perf_counter() - began

    def _refuse_if_expensive(self, image: EncodedImage, cost: Cost) -> None:
        size = f"{image.kind} image of {cost.width} x {cost.height} pixels"
        if cost.memory_bytes > self._limits.memory_bytes:
            raise TooManyPixels(
                f"The {size} takes about {cost.memory_bytes >> 20} MB to decode; the limit is "
                f"{self._limits.memory_bytes >> 20}. Scale it down, or save it as a baseline JPEG."
            )
        if cost.seconds > self._limits.cpu_s:
            raise DamagedImage(
                f"The {size} takes about {cost.seconds:.1f} s to decode; the limit is {self._limits.cpu_s:g}. "
                "Scale it down, or save it as a baseline JPEG."
            )

    def _update_mean(self, seconds: float) -> None:
        """Wall-clock time, because other processes on the same cores make the queue longer, too."""
        self._image_s = (1 - _NEWEST) * self._image_s + _NEWEST * seconds if self._image_s else seconds
        self._backlog.set_rate(self._threads / self._image_s)

    async def aclose(self) -> None:
        """Stop the threads and processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await self._workers.aclose()
        await self._expensive.aclose()
