"""Records an OpenTelemetry span for each request over gRPC. Imported only if traces are wanted."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Status, StatusCode

from ingest.grpc_api.calls import Call, ignore_status
from ingest.grpc_api.status import code_of
from ingest.middleware.tracing import RequestTracer


class CallTracer:
    """Records calls as the middleware records requests over HTTP. Each request of a stream has its own span."""

    def __init__(self, tracer: RequestTracer) -> None:
        self._tracer = tracer

    @contextmanager
    def request(self, call: Call) -> Iterator[None]:
        """A span around one request. It ends with the status that is given to `call.note_status` meanwhile."""
        service, _, method = call.method.strip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        carrier = {name: value for name, value in call.metadata if isinstance(value, str)}
        with self._tracer.request(f"{service}/{method}", carrier, attributes) as span:
            call.note_status = lambda status: _describe(span, status)
            try:
                yield
            finally:
                call.note_status = ignore_status


def _describe(span: Span, status: int) -> None:
    """By the semantic conventions for gRPC. What the client could have avoided is no error of the server."""
    code = code_of(status)
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if status >= 500:
        span.set_attribute("error.type", code.name)
        span.set_status(Status(StatusCode.ERROR))
