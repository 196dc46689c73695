"""Turns: the batches of all lanes run one at a time, in the order in which they were filled. Knows no partition."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from consumers.batch import Batch
from consumers.buffer_pool import Belt
from consumers.inference import Runner
from consumers.onnx.model import Model


class Turns:
    """Hands each batch to the runner of its lane, and the slot back to the belt, until the belt ends."""

    def __init__(self, belt: Belt[Runner], model: Model, thread: ThreadPoolExecutor, *, unload_after_s: float) -> None:
        self._belt = belt
        self._model = model
        self._thread = thread
        self._unload_after_s = unload_after_s

    async def run(self) -> None:
        """Run batches until the belt has ended."""
        async for runner, batch in self._ready():
            await runner.serve(batch)
            self._belt.release(batch)
        self._thread.shutdown()

    async def _ready(self) -> AsyncIterator[tuple[Runner, Batch]]:
        while (work := await self._next()) is not None:
            yield work

    async def _next(self) -> tuple[Runner, Batch] | None:
        """The next batch; a model that waits for longer than `unload_after_s` gives its memory back meanwhile."""
        if self._unload_after_s and self._model.loaded:
            try:
                async with asyncio.timeout(self._unload_after_s):
                    return await self._belt.batches.get()
            except TimeoutError:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._model.unload)
        return await self._belt.batches.get()
