"""Spans of a consumer: one for each batch, and two stages for each image in it.

Imported only if traces are exported. A batch has many parents, so it is a trace of its own, with a link to each
request; the stages belong to the requests' traces. Their times count from the moment at which ingest sent the entry, by
ingest's clock. Each stage begins where the last one ended, so no two hosts need agree on the time.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.batch import entry_of
from consumers.onnx.model import Model
from stream.entry import Entry
from stream.group import Delivery

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class _TracedImage:
    """An image whose request is traced and sampled. `request` is the context of its server span."""

    entry: Entry
    queue_ns: int
    request: Context

    @property
    def link(self) -> SpanContext:
        return get_current_span(self.request).get_span_context()


class OpenTelemetryTracer:
    """Records batches that have run, as spans."""

    def __init__(self, traces: TracerProvider, *, consumer: str) -> None:
        self._tracer = traces.get_tracer("sluice.consumers")
        self._consumer = consumer

    def record(
        self,
        deliveries: Sequence[Delivery],
        model: Model,
        *,
        began_ms: float,
        run_ms: float,
        error: Exception | None = None,
    ) -> None:
        """Record a batch that `model` began at `began_ms` by Redis's clock; it failed if there is an `error`."""
        traced = [image for delivery in deliveries if (image := _traced(delivery, began_ms))]
        if not traced:
            return
        run_ns = round(run_ms * 1_000_000)
        about: dict[str, str | int] = {
            "sluice.model": model.description.name,
            "sluice.version": model.description.version,
            "sluice.provider": model.provider.ort_name,
            "sluice.consumer": self._consumer,
            "sluice.batch.size": len(deliveries),
        }
        batch = self._batch(traced, about, run_ns, _status(error))
        for image in traced:
            inference_ns = image.entry.sent_ns + image.queue_ns
            queue = self._tracer.start_span("queue", image.request, start_time=image.entry.sent_ns)
            queue.end(inference_ns)
            inference = self._tracer.start_span("inference", image.request, links=[batch], start_time=inference_ns)
            inference.set_status(_status(error))
            inference.end(inference_ns + run_ns)

    def _batch(
        self, traced: Sequence[_TracedImage], about: Mapping[str, str | int], run_ns: int, status: Status
    ) -> Link:
        ended_ns = time.time_ns()
        links = [Link(image.link, {"sluice.request.id": image.entry.id}) for image in traced]
        span = self._tracer.start_span(
            "batch",
            Context(),
            kind=SpanKind.CONSUMER,
            attributes=about,
            links=links,
            start_time=ended_ns - run_ns,
        )
        span.set_status(status)
        span.end(ended_ns)
        return Link(span.get_span_context())


def _traced(delivery: Delivery, began_ms: float) -> _TracedImage | None:
    entry = entry_of(delivery)
    if not entry.traceparent:
        return None
    # An invalid traceparent gives a context without a span, which counts as not sampled.
    request = _PROPAGATOR.extract({"traceparent": entry.traceparent}, Context())
    if not get_current_span(request).get_span_context().trace_flags.sampled:
        return None
    return _TracedImage(entry, max(0, round((began_ms - delivery.accepted_ms) * 1_000_000)), request)


def _status(error: Exception | None) -> Status:
    return Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, str(error))
