"""The input buffers of a consumer: fetchers fill free ones, the model runs full ones, one after the other."""

import asyncio
from collections.abc import Iterable

from consumers.batch import Batch, Buffer


class BufferPool:
    """Free buffers, and batches that wait for the model; `None` after the last batch.

    Fetchers get buffers in the order in which they ask, so that none starves.
    """

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self.free: asyncio.Queue[Buffer] = asyncio.Queue()
        for buffer in buffers:
            self.free.put_nowait(buffer)
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._count = self.free.qsize()
        self._idle = asyncio.Event()

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
        self.free.put_nowait(buffer)
        if self.free.qsize() == self._count:
            self._idle.set()

    def end(self) -> None:
        """No further batch will be queued."""
        self.batches.put_nowait(None)
