"""Decodes images in threads, with limits on how many images wait, for how long and with how many bytes."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ingest.backpressure import BacklogLimit
from ingest.errors import Overloaded
from ingest.images.decode import EncodedImage
from ingest.metrics import DECODE
from ingest.request_trace import Stage
from ingest.uploads import Upload
from stream.model import ModelDescription

#: Weight of the newest image in the running mean of the time for one. About the last twenty images count.
_NEWEST: Final = 0.1


class Decoder:
    """A pool of threads that turn uploads into pixels. The decoders release the GIL.

    If the pool has one thread, the event loop decodes small JPEGs itself, one per iteration. To hand such an image to a
    thread and back would add a tenth to its time.

    `backlog` limits the images that wait by number and, at the measured speed, by time. `max_bytes` limits the size of
    their files. An image is accepted whatever its size if no other one waits.
    """

    def __init__(self, *, threads: int, max_pixels: int, backlog: BacklogLimit, max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._max_pixels = max_pixels
        self._backlog = backlog
        self._max_bytes = max_bytes
        self._inline_lock = asyncio.Lock()
        self._pending = 0
        self._pending_bytes = 0
        self._image_s = 0.0

    @property
    def remaining_s(self) -> float:
        """How long the images that wait will keep the threads busy, at the measured speed."""
        return self._pending * self._image_s / self._threads

    async def decode(self, upload: Upload, model: ModelDescription) -> bytes:
        """The image as uint8 [height, width, 3]. Raises a Problem."""
        size = len(upload.data)
        self._refuse_if_full(size)
        self._pending += 1
        self._pending_bytes += size
        began = time.perf_counter()
        try:
            with Stage("decode"):
                pixels, seconds = await self._run(EncodedImage(upload.data), model)
        finally:
            self._pending -= 1
            self._pending_bytes -= size
            DECODE.observe(time.perf_counter() - began)
        self._update_mean(seconds)
        return pixels

    def _refuse_if_full(self, size: int) -> None:
        too_many = self._pending >= self._backlog.limit
        too_large = self._pending > 0 and self._pending_bytes + size > self._max_bytes
        if too_many or too_large:
            raise Overloaded(
                f"{self._pending} images wait to be decoded. Send the image again after the time in Retry-After.",
                retry_after_s=self._backlog.retry_after_s(self._pending),
            )

    async def _run(self, image: EncodedImage, model: ModelDescription) -> tuple[bytes, float]:
        if self._threads > 1 or not image.is_quick:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, image, model)
        async with self._inline_lock:
            # Other requests that have arrived are read first, and wait for the lock. That counts as this image's time.
            began = time.perf_counter()
            await asyncio.sleep(0)
            return image.to_pixels(model, self._max_pixels), time.perf_counter() - began

    def _timed(self, image: EncodedImage, model: ModelDescription) -> tuple[bytes, float]:
        began = time.perf_counter()
        return image.to_pixels(model, self._max_pixels), time.perf_counter() - began

    def _update_mean(self, seconds: float) -> None:
        """Wall-clock time, because other processes on the same cores make the queue longer, too."""
        self._image_s = (1 - _NEWEST) * self._image_s + _NEWEST * seconds if self._image_s else seconds
        self._backlog.set_rate(self._threads / self._image_s)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
