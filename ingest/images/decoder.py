"""Decodes images, each where its cost allows: on the event loop, in a thread, or in a worker process.

| image | decoded |
| --- | --- |
| small baseline JPEG, if there is one thread | on the event loop |
| other JPEG of moderate cost | in a thread |
| any other format of moderate cost | in a worker process of lower priority |
| more expensive, whatever the format | in a worker process of the lowest priority, one at a time, the cheapest first |

A file of moderate cost that takes longer than its header says counts as expensive from then on.

The cost comes from the header, before memory is taken. An image above the limits is refused. All limits together bound
what waits: by number, by time and by bytes.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from ingest.backpressure import BacklogLimit, DecodeQueue
from ingest.errors import DamagedImage, Overloaded, TooManyPixels
from ingest.images.cost import Cost
from ingest.images.decode import EncodedImage, NeedsPillow
from ingest.images.formats import TITLES
from ingest.images.worker_pool import OutOfTime, WorkerPool
from ingest.images.worker_process import DecodeLimits
from ingest.metrics import DECODE
from ingest.request_body import Upload
from ingest.request_trace import current_trace
from stream.host.cpu import IDLE_NICENESS
from stream.keys import Priority
from stream.model import ModelDescription

#: Weight of the newest image in the running mean of the time for one. About the last twenty images count.
_NEWEST: Final = 0.1

#: Up to this cost, an image is decoded beside others: a baseline JPEG of 18 megapixels and 5 MB, or a PNG of 3
#: megapixels. The estimate for a JPEG is an upper bound, whatever the file. A tall JPEG takes no longer than a
#: camera's image, but 60 MB: beside it, the 99th percentile of others was 29 ms, and is 15 ms now that it is expensive.
_MODERATE_BYTES: Final = 48 * 2**20
_MODERATE_JPEG_S: Final = 0.15
_MODERATE_S: Final = 0.08
#: CPU time after which an image of another format is not moderate, whatever its header says. It is then decoded again,
#: and both together must stay below two seconds by default.
_MODERATE_CPU_S: Final = 0.2

#: The priority of images of moderate cost in a process: a quarter of a core that others want, all of one that is free.
_MODERATE_PRIORITY: Final = 5
#: The priority of expensive images: all of a core that is free, at most a thirtieth of one that others want.
_LOW_PRIORITY: Final = IDLE_NICENESS

#: Segments of a JPEG's header that the event loop reads, in 2 ms. A file with more, which takes 60 KB, is expensive.
MOST_SEGMENTS: Final = 256

#: Iterations of the event loop before each image that it decodes. A request that has arrived needs several until it
#: waits for the lock, and a gRPC call needs more. Consumers wait for images that are seen to wait, so their batches are
#: larger: 12 images instead of 2 by gRPC, with 32 clients.
_ITERATIONS: Final = 12


class Decoder:
    """Turns uploads into pixels. The decoders release the GIL.

    If there is one thread, the event loop decodes small JPEGs itself, one every few iterations. To hand such an image
    to a thread and back would add a tenth to its time.

    Images of moderate cost and expensive ones wait in queues of their own, with the same limits (DecodeQueue).
    """

    def __init__(self, *, threads: int, backlog: BacklogLimit, max_bytes: int, limits: DecodeLimits) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._workers = WorkerPool(limits, workers=threads, niceness=_MODERATE_PRIORITY, keep_one=True)
        self._expensive = WorkerPool(limits, workers=1, niceness=_LOW_PRIORITY)
        self._threads = threads
        self._backlog = backlog
        self._limits = limits
        self._inline_lock = asyncio.Lock()
        self._moderate_queue = DecodeQueue(backlog, max_bytes=max_bytes, bulk_slots=threads)
        self._expensive_queue = DecodeQueue(backlog, max_bytes=max_bytes, bulk_slots=1)
        self._image_s = 0.0

    async def start(self) -> None:
        """Start the worker process for the images that no thread decodes, before the first one comes."""
        with suppress(Overloaded):
            await self._workers.start()

    @property
    def remaining_s(self) -> float:
        """How long the images of moderate cost that wait will keep the threads busy, at the measured speed."""
        return len(self._moderate_queue) * self._image_s / self._threads

    async def decode(self, upload: Upload, model: ModelDescription, priority: Priority = "interactive") -> bytes:
        """The image as uint8 [height, width, channels]. Raises a Problem."""
        began = time.perf_counter()
        try:
            return await self._run(EncodedImage(upload.data, most_segments=MOST_SEGMENTS), model, priority)
        finally:
            decode_s = time.perf_counter() - began
            DECODE.observe(decode_s)
            if trace := current_trace.get():
                trace.end_stage("decode", decode_s)

    async def _run(self, image: EncodedImage, model: ModelDescription, priority: Priority) -> bytes:
        size = len(image.data)
        if self._threads == 1 and image.is_quick:
            with suppress(NeedsPillow):
                async with self._moderate_queue.enter(size, priority):
                    return await self._inline(image, model)
        cost = image.cost(model, self._limits.max_pixels)
        self._refuse_if_expensive(image, cost)
        estimated_s = cost.seconds
        if _is_moderate(image, cost):
            with suppress(OutOfTime):
                async with self._moderate_queue.enter(size, priority):
                    return await self._beside_others(image, model, cost)
            estimated_s = self._limits.cpu_s
        async with self._expensive_queue.enter(size, priority):
            pixels, _ = await self._expensive.decode(image.data, model, estimated_s)
            return pixels

    async def _beside_others(self, image: EncodedImage, model: ModelDescription, cost: Cost) -> bytes:
        """Decode an image of moderate cost. Raises OutOfTime if it is expensive after all."""
        if image.kind == "JPEG":
            with suppress(NeedsPillow):
                return await self._in_thread(image, model)
        pixels, seconds = await self._workers.decode(image.data, model, cost.seconds, cpu_s=_MODERATE_CPU_S)
        self._update_mean(seconds)
        return pixels

    async def _inline(self, image: EncodedImage, model: ModelDescription) -> bytes:
        async with self._inline_lock:
            # The iterations count as this image's time, since those that wait for the lock wait for them, too.
            began = time.perf_counter()
            for _ in range(_ITERATIONS):
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
                retry_after_s=self._backlog.retry_after_s(len(self._moderate_queue)),
            ) from None
        self._update_mean(seconds)
        return pixels

    def _timed(self, image: EncodedImage, model: ModelDescription) -> tuple[bytes, float]:
        began = time.perf_counter()
        return image.to_pixels(model, self._limits.max_pixels, by_pillow=False), time.perf_counter() - began

    def _refuse_if_expensive(self, image: EncodedImage, cost: Cost) -> None:
        size = f"{TITLES[image.kind]} image"
        if cost.width:  # Unknown if its header is too long to be read here.
            size += f" of {cost.width} x {cost.height} pixels"
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


def _is_moderate(image: EncodedImage, cost: Cost) -> bool:
    most_s = _MODERATE_JPEG_S if image.kind == "JPEG" else _MODERATE_S
    return cost.memory_bytes <= _MODERATE_BYTES and cost.seconds <= most_s
