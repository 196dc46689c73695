"""Every request, counted and logged on its way out. ASGI, knows no endpoint and no Redis."""

import logging
import time

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.metrics import REQUEST_SECONDS, REQUESTS
from stream import logs

logger = logging.getLogger(__name__)


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
        began = time.perf_counter()
        answer = _Answer(send)
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


class _Answer:
    """Passes an answer on, and remembers its status; 500 where there was none."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
