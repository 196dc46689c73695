"""The span of each request, and below it the stages that ingest sees. ASGI, knows no endpoint.

Imported only where traces are wanted. `ingest` lasts from the request's beginning until its last image was sent,
`reply` from the end of an image's inference until the answer has been sent; queue and inference, between them, are
recorded by the consumer (consumers/tracing.py), placed from the same moment, so that the four are the whole.
"""

import time
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest import request_trace as journey
from ingest.api.static import is_page
from ingest.middleware.auth import is_open
from ingest.request_trace import Journey
from stream.host import logs

_PROPAGATOR: Final = TraceContextTextMapPropagator()

#: Asked by machines again and again, or without an end: their traces would only hide the others.
_UNTRACED: Final = frozenset({"/metrics", "/live"})


def _untraced(path: str) -> bool:
    return is_open(path) or is_page(path) or path in _UNTRACED


class Traced:
    """The outermost of what a request passes, so that its span is the whole."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("sluice.ingest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _untraced(scope["path"]):
            await self._app(scope, receive, send)
            return
        began_ns = time.time_ns()
        span = self._begin(scope, began_ns)
        if not span.is_recording():
            await self._app(scope, receive, send)
            return
        travelling = _begin_journey(span)
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            ended_ns = time.time_ns()
            self._stages(span, travelling, began_ns, ended_ns)
            _describe(span, scope, status)
            span.end(ended_ns)

    def _begin(self, scope: Scope, began_ns: int) -> Span:
        """A span of the client's trace, where it has one."""
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
        }
        context = _PROPAGATOR.extract(Headers(scope=scope), Context())
        return self._tracer.start_span(
            scope["method"], context, kind=SpanKind.SERVER, attributes=attributes, start_time=began_ns
        )

    def _stages(self, span: Span, travelled: Journey, began_ns: int, ended_ns: int) -> None:
        if not travelled.steps:
            return
        below = set_span_in_context(span, Context())
        ingest = self._tracer.start_span("ingest", below, start_time=began_ns)
        within = set_span_in_context(ingest, Context())
        for name, step_began_ns, step_ended_ns in travelled.steps:
            self._tracer.start_span(name, within, start_time=step_began_ns).end(step_ended_ns)
        ingest.end(max(travelled.sent_ns.values(), default=ended_ns))
        for reply_ns in travelled.reply_ns.values():
            self._tracer.start_span("reply", below, start_time=min(reply_ns, ended_ns)).end(ended_ns)


def _begin_journey(span: Span) -> Journey:
    logs.trace(format_trace_id(span.get_span_context().trace_id))
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return journey.begin(carrier["traceparent"])


def _describe(span: Span, scope: Scope, status: int) -> None:
    """What is known only at the end (semantic conventions for HTTP spans: 5xx alone are the server's errors)."""
    span.set_attribute("http.response.status_code", status)
    if route := getattr(scope.get("route"), "path", ""):
        span.set_attribute("http.route", route)
        span.update_name(f"{scope['method']} {route}")
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
