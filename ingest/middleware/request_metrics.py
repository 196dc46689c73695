"""Counts, times and logs every request."""

import logging
import time

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.dashboard.request_window import RequestWindow
from ingest.metrics import BATCH_SIZE, REQUEST_SECONDS, REQUESTS
from stream.host import logs

logger = logging.getLogger(__name__)

#: Key in a request's scope: when the request began, in seconds of the performance counter.
_BEGAN = "sluice.began"

#: The status of a response that no client reads, because the client has disconnected (ingest/app.py).
CLIENT_GONE = 499


class RequestRecorder:
    """Counts requests. Prometheus gets all of them; `window`, which the page shows, those that post images."""

    def __init__(self, window: RequestWindow) -> None:
        self._window = window
        # There are few routes and statuses. To find their series with labels() takes longer than to count.
        self._series: dict[tuple[str, int], Counter] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request. `route` must be a pattern and not a path: a client can invent any number of paths."""
        series = self._series.get((route, status))
        if series is None:
            series = self._series[route, status] = REQUESTS.labels(route, status)
        series.inc()
        if method == "POST" and status < 300:
            REQUEST_SECONDS.observe(seconds)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("answered method=%s route=%s status=%d seconds=%.4f", method, route, status, seconds)

    def note_classification(self, status: int, seconds: float, *, batch: int = 0) -> None:
        """A request that posted images. One whose client has disconnected is left out."""
        if status != CLIENT_GONE:
            self._window.note(status, seconds, batch=batch)


class RequestMetricsMiddleware:
    """Measures each request from its headers to the end of its response, refused requests included."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        logs.start_scope()
        began = scope[_BEGAN] = time.perf_counter()
        response = _TimedSend(send, began)
        try:
            await self._app(scope, receive, response)
        finally:
            seconds = time.perf_counter() - began
            route = str(getattr(scope.get("route"), "path", "none"))
            self._recorder.count(scope["method"], route, response.status, seconds)
            if response.started and _is_classification(scope["method"], scope["path"]):
                self._recorder.note_classification(response.status, seconds, batch=scope.get(BATCH_SIZE, 0))


def _is_classification(method: str, path: str) -> bool:
    """Whether this request posts images to be classified."""
    return method == "POST" and (path.startswith("/predict") or path.endswith(("/infer", ":predict", ":classify")))


def server_timing(scope: Scope) -> str:
    """The value of Server-Timing for a response that is made outside this middleware."""
    return _total(scope[_BEGAN])


def _total(began: float) -> str:
    return f"total;dur={(time.perf_counter() - began) * 1000:.2f}"


class _TimedSend:
    """Sends the response, adds Server-Timing if the endpoint did not, and remembers the status.

    The status is 500 until a response has `started`.
    """

    __slots__ = ("_began", "_send", "started", "status")

    def __init__(self, send: Send, began: float) -> None:
        self._send = send
        self._began = began
        self.started = False
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = message.setdefault("headers", [])
            if not any(name == b"server-timing" for name, _ in headers):
                message["headers"] = [*headers, (b"server-timing", _total(self._began).encode())]
        await self._send(message)
