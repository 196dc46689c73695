"""What all partitions of one worker share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from consumers.batch_size import BatchSizer
from consumers.buffer_pool import BufferPool
from consumers.health import Health
from consumers.in_flight import WorkerState
from consumers.onnx.model import Model
from stream.connection.clients import Connections
from stream.group import Delivery
from stream.settings import ConsumerSettings


class BatchTracer(Protocol):
    """Records each batch that ran: when it began by Redis's clock, how long it ran, and its error if it failed."""

    def record(
        self, deliveries: Sequence[Delivery], *, began_ms: float, run_ms: float, error: Exception | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The collaborators of a worker. `name` is the consumer's; `executor` has the one thread that runs the model."""

    name: str
    settings: ConsumerSettings
    connections: Connections
    model: Model
    executor: ThreadPoolExecutor
    buffers: BufferPool
    sizer: BatchSizer
    state: WorkerState
    health: Health
    tracer: BatchTracer | None = None
