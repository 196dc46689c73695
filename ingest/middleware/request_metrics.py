"""Every request, counted, timed and logged on its way out. ASGI, knows no endpoint and no Redis."""

import logging
import time

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.metrics import REQUEST_SECONDS, REQUESTS
from stream.host import logs

logger = logging.getLogger(__name__)

#: Where a request's scope has the time at which it began, in seconds of the performance counter.
_BEGAN = "sluice.began"


class Measured:
    """The outermost of what a request passes, so that those who are refused are counted as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # There are few routes and statuses; finding their series by labels() takes longer than counting.
        self._series: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        logs.begin()
        began = scope[_BEGAN] = time.perf_counter()
        answer = _Answer(send, began)
        try:
            await self._app(scope, receive, answer)
        finally:
            self._count(scope, answer.status, time.perf_counter() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The pattern, not the path: a client can invent any number of paths.
        route = str(getattr(scope.get("route"), "path", "none"))
        series = self._series.get((route, status))
        if series is None:
            series = self._series[route, status] = REQUESTS.labels(route, status)
        series.inc()
        if scope["method"] == "POST" and status < 300:
            REQUEST_SECONDS.observe(seconds)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "answered method=%s route=%s status=%d seconds=%.4f", scope["method"], route, status, seconds
            )  # fmt: skip


def server_timing(scope: Scope) -> str:
    """The header Server-Timing of an answer that does not pass here: the milliseconds since the request began."""
    return _total(scope[_BEGAN])


def _total(began: float) -> str:
    return f"total;dur={(time.perf_counter() - began) * 1000:.2f}"


class _Answer:
    """Passes an answer on, with the time that it took where it does not say so itself; remembers its status.

    The status is 500 where there was no answer.
    """

    __slots__ = ("_began", "_send", "status")

    def __init__(self, send: Send, began: float) -> None:
        self._send = send
        self._began = began
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message.setdefault("headers", [])
            if not any(name == b"server-timing" for name, _ in headers):
                message["headers"] = [*headers, (b"server-timing", _total(self._began).encode())]
        await self._send(message)
