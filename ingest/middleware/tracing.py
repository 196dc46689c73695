"""Records an OpenTelemetry span for each request, over HTTP or gRPC, with the stages of ingest below it.

`ingest` lasts from the begin of the request until its last image was sent. `reply` lasts from the end of an image's
inference until the response was sent. Consumers record queue and inference, between the two, from the same moment
(consumers/tracing.py). So the four add up to the whole request. Imported only if traces are wanted.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.paths import is_traced
from ingest.request_trace import RequestTrace, current_trace
from stream.host import logs

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class RequestTracer:
    """Records the spans of requests, whatever their protocol."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("sluice.ingest")

    @contextmanager
    def request(self, name: str, carrier: Mapping[str, str], attributes: Mapping[str, str]) -> Iterator[Span]:
        """A span around one request, of the client's trace if the `carrier` (headers, metadata) names one."""
        began_ns = time.time_ns()
        context = _PROPAGATOR.extract(carrier, Context())
        span = self._tracer.start_span(name, context, kind=SpanKind.SERVER, attributes=attributes, start_time=began_ns)
        if not span.is_recording():
            yield span
            return
        trace = _start_trace(span)
        try:
            yield span
        finally:
            ended_ns = time.time_ns()
            self._record_stages(span, trace, began_ns, ended_ns)
            span.end(ended_ns)

    def _record_stages(self, span: Span, trace: RequestTrace, began_ns: int, ended_ns: int) -> None:
        if not trace.stages and not trace.sent_ns:
            return
        below = set_span_in_context(span, Context())
        ingest = self._tracer.start_span("ingest", below, start_time=began_ns)
        within = set_span_in_context(ingest, Context())
        for name, stage_began_ns, stage_ended_ns in trace.stages:
            self._tracer.start_span(name, within, start_time=stage_began_ns).end(stage_ended_ns)
        ingest.end(max(trace.sent_ns.values(), default=ended_ns))
        for reply_ns in trace.reply_ns.values():
            self._tracer.start_span("reply", below, start_time=min(reply_ns, ended_ns)).end(ended_ns)


class TracingMiddleware:
    """The span includes what all other middleware does, so this one comes first in the list in ingest/app.py."""

    def __init__(self, app: ASGIApp, tracer: RequestTracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_traced(scope["path"]):
            await self._app(scope, receive, send)
            return
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.request(scope["method"], Headers(scope=scope), attributes) as span:
            try:
                await self._app(scope, receive, send_and_note if span.is_recording() else send)
            finally:
                _describe(span, scope, status)


def _start_trace(span: Span) -> RequestTrace:
    logs.set_trace(format_trace_id(span.get_span_context().trace_id))
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    trace = RequestTrace(carrier["traceparent"])
    current_trace.set(trace)
    return trace


def _describe(span: Span, scope: Scope, status: int) -> None:
    """What is known only at the end. By the semantic conventions for HTTP, only 5xx is an error of the server."""
    if not span.is_recording():
        return
    span.set_attribute("http.response.status_code", status)
    if route := getattr(scope.get("route"), "path", ""):
        span.set_attribute("http.route", route)
        span.update_name(f"{scope['method']} {route}")
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
