"""The context of a worker whose parts are tested one by one."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np

from consumers.batch import BufferPool
from consumers.batch_size import BatchSizer
from consumers.context import WorkerContext
from consumers.health import Health
from consumers.in_flight import WorkerState
from consumers.onnx.model import Model, ServedModel
from stream.model import ModelDescription, Resize
from stream.settings import ConsumerSettings


def worker_context(
    *, model: Model | None = None, buffers: BufferPool | None = None, name: str = "first", **settings: Any
) -> WorkerContext:
    """A context with these settings. A part that runs a model needs a `model`."""
    given = ConsumerSettings(**settings)
    connections: Any = None  # Each part gets its client as an argument.
    return WorkerContext(
        name=name,
        settings=given,
        connections=connections,
        served=ServedModel(model or _no_model(), ThreadPoolExecutor(1)),
        buffers=buffers or BufferPool(lambda: np.zeros(0, np.uint8), 0),
        sizer=BatchSizer(max_batch=given.max_batch, max_batch_s=given.max_batch_s),
        state=WorkerState(),
        health=Health(given.lease_s),
    )


def _no_model() -> Any:
    """What describes itself: the version takes one pixel."""
    return SimpleNamespace(description=ModelDescription("tiny", "1", "", 1, 1, Resize(), ("label",)))
