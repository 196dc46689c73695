"""The input buffers of a consumer: fetchers fill free ones, the model runs full ones, one after the other."""

import asyncio
from collections.abc import Callable

from consumers.batch import Batch, Buffer


class BufferPool:
    """Free buffers, and batches that wait for the model; `None` after the last batch.

    Fetchers get buffers in the order in which they ask, so that none starves.
    """

    def __init__(self, new: Callable[[], Buffer], count: int) -> None:
        self._new, self._dtype = new, new().dtype
        self.free: asyncio.Queue[Buffer] = asyncio.Queue()
        for _ in range(count):
            self.free.put_nowait(new())
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._count = count
        self._idle = asyncio.Event()

    def replace(self, new: Callable[[], Buffer]) -> None:
        """Another version is served, which may take another type of pixels."""
        self._new, self._dtype = new, new().dtype
        for _ in range(self.free.qsize()):
            self.free.put_nowait(self.fitting(self.free.get_nowait()))

    def fitting(self, buffer: Buffer) -> Buffer:
        """This buffer, or a new one if it was made for a version with another type of pixels."""
        return buffer if buffer.dtype == self._dtype else self._new()

    async def idle(self) -> None:
        """Wait until no batch runs or waits for the model."""
        if self.free.qsize() < self._count:
            self._idle.clear()
            await self._idle.wait()

    def release(self, batch: Batch) -> None:
        """The batch has run: its buffer may be filled again."""
        self.put_back(batch.buffer)

    def put_back(self, buffer: Buffer) -> None:
        """The buffer is free again."""
        self.free.put_nowait(self.fitting(buffer))
        if self.free.qsize() == self._count:
            self._idle.set()

    def end(self) -> None:
        """No further batch will be queued."""
        self.batches.put_nowait(None)
