"""Decoding beside the event loop: a thread for each core, and a bound on how many pictures wait for one."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from ingest.journey import Step
from ingest.metrics import DECODE
from ingest.pictures import to_pixels
from ingest.problems import Overloaded
from ingest.uploads import Upload
from stream.model import ModelDescription

#: Pictures that may wait for each thread. At some milliseconds a picture, the last one waits well under a second;
#: beyond that, refusing is kinder than queueing.
_WAITING_PER_THREAD = 64


class Decoder:
    """A pool of threads that turn uploads into pixels. Pillow releases the GIL while it decodes."""

    def __init__(self, *, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels
        self._most = threads * (1 + _WAITING_PER_THREAD)
        self._pending = 0

    async def decode(self, upload: Upload, model: ModelDescription) -> bytes:
        """Raw uint8 [height, width, 3] of the picture; raises a Problem."""
        if self._pending >= self._most:
            raise Overloaded(
                f"{self._pending} pictures wait to be decoded. Send the image again after the time in Retry-After.",
                retry_after_s=1,
            )
        self._pending += 1
        began = time.perf_counter()
        try:
            with Step("decode"):
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, to_pixels, upload.data, model, self._max_pixels
                )
        finally:
            self._pending -= 1
            DECODE.observe(time.perf_counter() - began)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
