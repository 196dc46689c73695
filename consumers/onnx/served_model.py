"""The model that a worker serves at present, and the thread that runs it. Another version can take its place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from consumers.onnx.model import Model
from stream.model import ModelDescription

T = TypeVar("T")


def inference_thread() -> ThreadPoolExecutor:
    """One thread that loads, checks and runs one model: CUDA graphs belong to the thread that captured them."""
    return ThreadPoolExecutor(1, thread_name_prefix="inference")


class ServedModel:
    """A model with its thread. It changes only between two batches: each batch runs wholly on one version."""

    def __init__(self, model: Model, executor: ThreadPoolExecutor) -> None:
        self.model = model
        self._executor = executor
        self._in_use = asyncio.Lock()

    @property
    def description(self) -> ModelDescription:
        return self.model.description

    @asynccontextmanager
    async def one_batch(self) -> AsyncIterator[None]:
        """Within this block the model stays the same."""
        async with self._in_use:
            yield

    async def call(self, work: Callable[[], T]) -> T:
        """The result of `work` in the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def change(self, model: Model, executor: ThreadPoolExecutor) -> None:
        """Serve another model from the next batch on, and free the memory of the one before."""
        async with self._in_use:
            before, thread = self.model, self._executor
            self.model, self._executor = model, executor
        await asyncio.get_running_loop().run_in_executor(thread, before.unload)
        thread.shutdown(wait=False)

    def close(self) -> None:
        """No further batch will run."""
        self._executor.shutdown()
