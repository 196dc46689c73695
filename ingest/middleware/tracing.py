"""Records an OpenTelemetry span for each request, with the stages of ingest below it.

`ingest` lasts from the begin of the request until its last image was sent. `reply` lasts from the end of an image's
inference until the response was sent. Consumers record queue and inference, between the two, from the same moment
(consumers/tracing.py). So the four add up to the whole request. Imported only if traces are wanted.
"""

import time
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest import request_trace
from ingest.paths import is_traced
from ingest.request_trace import RequestTrace
from stream.host import logs

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class TracingMiddleware:
    """The span includes what all other middleware does, so this one comes first in the list in ingest/app.py."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("sluice.ingest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_traced(scope["path"]):
            await self._app(scope, receive, send)
            return
        began_ns = time.time_ns()
        span = self._begin(scope, began_ns)
        if not span.is_recording():
            await self._app(scope, receive, send)
            return
        trace = _start_trace(span)
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            ended_ns = time.time_ns()
            self._record_stages(span, trace, began_ns, ended_ns)
            _describe(span, scope, status)
            span.end(ended_ns)

    def _begin(self, scope: Scope, began_ns: int) -> Span:
        """A span of the client's trace, if the client sent one."""
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
        context = _PROPAGATOR.extract(Headers(scope=scope), Context())
        return self._tracer.start_span(
            scope["method"], context, kind=SpanKind.SERVER, attributes=attributes, start_time=began_ns
        )

    def _record_stages(self, span: Span, trace: RequestTrace, began_ns: int, ended_ns: int) -> None:
        if not trace.stages:
            return
        below = set_span_in_context(span, Context())
        ingest = self._tracer.start_span("ingest", below, start_time=began_ns)
        within = set_span_in_context(ingest, Context())
        for name, stage_began_ns, stage_ended_ns in trace.stages:
            self._tracer.start_span(name, within, start_time=stage_began_ns).end(stage_ended_ns)
        ingest.end(max(trace.sent_ns.values(), default=ended_ns))
        for reply_ns in trace.reply_ns.values():
            self._tracer.start_span("reply", below, start_time=min(reply_ns, ended_ns)).end(ended_ns)


def _start_trace(span: Span) -> RequestTrace:
    logs.set_trace(format_trace_id(span.get_span_context().trace_id))
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return request_trace.start(carrier["traceparent"])


def _describe(span: Span, scope: Scope, status: int) -> None:
    """What is known only at the end. By the semantic conventions for HTTP, only 5xx is an error of the server."""
    span.set_attribute("http.response.status_code", status)
    if route := getattr(scope.get("route"), "path", ""):
        span.set_attribute("http.route", route)
        span.update_name(f"{scope['method']} {route}")
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
