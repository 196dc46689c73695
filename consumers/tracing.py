"""Spans of what a consumer does: one for each batch, and two stages of each image in it. Knows no Redis and no model.

Imported only where traces are wanted. A batch has many parents, so it is a trace of its own, with a link to each
request; the stages belong to the requests' traces. They are placed from the moment at which ingest sent the entry, by
ingest's clock: each begins where the last one ended, and no two hosts need agree on the time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.batch import entry_of
from stream.entry import Entry
from stream.group import Delivery
from stream.model import ModelDescription

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class _Traced:
    """An image whose request is traced and sampled; `request` is the context of its server span."""

    entry: Entry
    queue_ns: int
    request: Context

    @property
    def link(self) -> SpanContext:
        return get_current_span(self.request).get_span_context()


class Traces:
    """Records batches that have run."""

    def __init__(self, provider: TracerProvider, model: ModelDescription, *, execution: str, consumer: str) -> None:
        self._tracer = provider.get_tracer("sluice.consumers")
        self._about = {
            "sluice.model": model.name,
            "sluice.version": model.version,
            "sluice.provider": execution,
            "sluice.consumer": consumer,
        }

    def ran(
        self, deliveries: Sequence[Delivery], *, began_ms: float, run_ms: float, error: Exception | None = None
    ) -> None:
        """A batch ran for so long, from a moment by Redis's clock on, and failed where there is an `error`."""
        traced = [one for delivery in deliveries if (one := _traced(delivery, began_ms))]
        if not traced:
            return
        run_ns = round(run_ms * 1_000_000)
        batch = self._batch(traced, len(deliveries), run_ns, _status(error))
        for one in traced:
            inference_ns = one.entry.sent_ns + one.queue_ns
            queue = self._tracer.start_span("queue", one.request, start_time=one.entry.sent_ns)
            queue.end(inference_ns)
            inference = self._tracer.start_span("inference", one.request, links=[batch], start_time=inference_ns)
            inference.set_status(_status(error))
            inference.end(inference_ns + run_ns)

    def _batch(self, traced: Sequence[_Traced], size: int, run_ns: int, status: Status) -> Link:
        ended_ns = time.time_ns()
        links = [Link(one.link, {"sluice.request.id": one.entry.id}) for one in traced]
        span = self._tracer.start_span(
            "batch",
            Context(),
            kind=SpanKind.CONSUMER,
            attributes={**self._about, "sluice.batch.size": size},
            links=links,
            start_time=ended_ns - run_ns,
        )
        span.set_status(status)
        span.end(ended_ns)
        return Link(span.get_span_context())


def _traced(delivery: Delivery, began_ms: float) -> _Traced | None:
    entry = entry_of(delivery)
    if not entry.traceparent:
        return None
    # What is no traceparent gives a context without a span, hence one that is not sampled.
    request = _PROPAGATOR.extract({"traceparent": entry.traceparent}, Context())
    if not get_current_span(request).get_span_context().trace_flags.sampled:
        return None
    return _Traced(entry, max(0, round((began_ms - delivery.accepted_ms) * 1_000_000)), request)


def _status(error: Exception | None) -> Status:
    return Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, str(error))
