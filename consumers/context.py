"""What all partitions of one worker share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consumers.batch import BufferPool
from consumers.batch_size import BatchSizer
from consumers.health import Health
from consumers.in_flight import WorkerState
from consumers.onnx.model import Model, ServedModel
from stream.connection.clients import Connections
from stream.group import Delivery
from stream.settings import ConsumerSettings


class BatchTracer(Protocol):
    """Records each batch that ran: when it began by Redis's clock, how long the model ran, and its error if any."""

    def record(
        self,
        deliveries: Sequence[Delivery],
        model: Model,
        *,
        began_ms: float,
        run_ms: float,
        error: Exception | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The collaborators of a worker. `name` is the consumer's."""

    name: str
    settings: ConsumerSettings
    connections: Connections
    served: ServedModel
    buffers: BufferPool
    sizer: BatchSizer
    state: WorkerState
    health: Health
    tracer: BatchTracer | None = None
