"""Decoding: a thread for each core beside the event loop, and bounds on what waits for one. Knows no pixel."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from ingest.backpressure import Gate
from ingest.errors import Overloaded
from ingest.images.decode import Undecoded
from ingest.metrics import DECODE
from ingest.request_trace import Step
from ingest.uploads import Upload
from stream.model import ModelDescription

#: Weight of the newest picture in the running mean of what one takes: about the last twenty count.
_NEWEST = 0.1


class Decoder:
    """A pool of threads that turn uploads into pixels. Pillow releases the GIL while it decodes.

    Where the pool is one thread, small photographs are decoded on the event loop, one in each of its turns: the way to
    a thread and back, and that thread's share of the GIL, would cost a tenth of what a photograph takes in all.

    The gate bounds the pictures that wait by number and, at the measured speed, by time; `most_bytes` bounds what they
    take meanwhile. A picture that finds nobody waiting is taken whatever its size.
    """

    def __init__(self, *, threads: int, max_pixels: int, gate: Gate, most_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._max_pixels = max_pixels
        self._gate = gate
        self._most_bytes = most_bytes
        self._turn = asyncio.Lock()
        self._pending = 0
        self._pending_bytes = 0
        self._picture_s = 0.0

    @property
    def remaining_s(self) -> float:
        """For how long the pictures that are here will keep the threads busy, at the measured speed."""
        return self._pending * self._picture_s / self._threads

    async def decode(self, upload: Upload, model: ModelDescription) -> bytes:
        """Raw uint8 [height, width, 3] of the picture; raises a Problem."""
        size = len(upload.data)
        self._refuse_if_full(size)
        self._pending += 1
        self._pending_bytes += size
        began = time.perf_counter()
        try:
            with Step("decode"):
                pixels, seconds = await self._run(Undecoded(upload.data), model)
        finally:
            self._pending -= 1
            self._pending_bytes -= size
            DECODE.observe(time.perf_counter() - began)
        self._note(seconds)
        return pixels

    def _refuse_if_full(self, size: int) -> None:
        too_many = self._pending >= self._gate.most
        too_large = self._pending > 0 and self._pending_bytes + size > self._most_bytes
        if too_many or too_large:
            raise Overloaded(
                f"{self._pending} pictures wait to be decoded. Send the image again after the time in Retry-After.",
                retry_after_s=self._gate.retry_after_s(self._pending),
            )

    async def _run(self, picture: Undecoded, model: ModelDescription) -> tuple[bytes, float]:
        if self._threads > 1 or not picture.is_quick:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, picture, model)
        async with self._turn:
            # Whoever else has arrived is read first, and known to wait; it is a part of what a picture takes here.
            began = time.perf_counter()
            await asyncio.sleep(0)
            return picture.to_pixels(model, self._max_pixels), time.perf_counter() - began

    def _timed(self, picture: Undecoded, model: ModelDescription) -> tuple[bytes, float]:
        began = time.perf_counter()
        return picture.to_pixels(model, self._max_pixels), time.perf_counter() - began

    def _note(self, seconds: float) -> None:
        """One picture took a thread so long. Time on the clock: who shares the cores makes the queue longer, too."""
        self._picture_s = (1 - _NEWEST) * self._picture_s + _NEWEST * seconds if self._picture_s else seconds
        self._gate.set_rate(self._threads / self._picture_s)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
