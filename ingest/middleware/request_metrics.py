"""Counts, times, names and logs every request.

The id of a request is the name that it has in the logs of its client, of a proxy and of ingest. A client may choose it.
Otherwise it is the id of the first image, which results, dead letters and the logs of consumers name, too. A request
without an image gets a new one.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.dashboard.request_window import RequestWindow
from ingest.metrics import BATCH_SIZE, REQUEST_SECONDS, REQUESTS
from stream.host.logs import request_ids
from stream.keys import new_id

logger = logging.getLogger(__name__)

#: A page of metrics, and the live view, may be this old.
_WRITE_EVERY_S: Final = 0.25

#: The header with the id, as responses, ASGI and gRPC's metadata have it.
ID_HEADER: Final = "X-Request-Id"
ID_METADATA: Final = ID_HEADER.lower()
_RAW_ID_HEADER: Final = ID_METADATA.encode()

#: Ids that other programs use: hexadecimal digits, UUIDs, base64, `Root=1-...`. No comma, which separates ids in log
#: lines.
_WELL_FORMED: Final = re.compile(r"[\w.:/+=@~-]{1,128}", re.ASCII)

#: Key in a request's scope: when the request began, in seconds of the performance counter.
_BEGAN = "sluice.began"

#: The status of a response that no client reads, because the client has disconnected (ingest/app.py).
CLIENT_GONE = 499


def begin_request(sent: str) -> None:
    """From now on, the log lines of this task name the id that the client sent, if it is well-formed."""
    request_ids.set([sent] if sent and _WELL_FORMED.fullmatch(sent) else [])


def current_request_id() -> str:
    """The id of the current request. From now on, the log lines of this task name it."""
    ids = request_ids.get()
    if ids is None:
        request_ids.set(ids := [])
    if not ids:
        ids.append(new_id())
    return ids[0]


class RequestRecorder:
    """Counts requests. Prometheus gets all of them; `window`, which the page shows, those that post images.

    Both get them from `write`, which `run` calls a few times a second.
    """

    def __init__(self, window: RequestWindow) -> None:
        self._window = window
        self._requests: Counter[tuple[str, int]] = Counter()
        #: Status, seconds and batch size of requests that posted images.
        self._classifications: list[tuple[int, float, int]] = []

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            self.write()

    def write(self) -> None:
        """Add to the metrics and to the window what has happened since the last call."""
        for labels, count in self._requests.items():
            REQUESTS.labels(*labels).inc(count)
        self._requests.clear()
        for status, seconds, batch in self._classifications:
            self._window.note(status, seconds, batch=batch)
        self._classifications.clear()

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request. `route` must be a pattern and not a path: a client can invent any number of paths."""
        self._requests[route, status] += 1
        if method == "POST" and status < 300:
            REQUEST_SECONDS.observe(seconds)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("answered method=%s route=%s status=%d seconds=%.4f", method, route, status, seconds)

    def note_classification(self, status: int, seconds: float, *, batch: int = 0) -> None:
        """A request that posted images. One whose client has disconnected is left out."""
        if status != CLIENT_GONE:
            self._classifications.append((status, seconds, batch))


class RequestMetricsMiddleware:
    """Measures each request from its headers to the end of its response, refused requests included."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin_request(dict(scope["headers"]).get(_RAW_ID_HEADER, b"").decode("latin-1"))
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


def headers_of_all(scope: Scope) -> dict[str, str]:
    """The headers of each response, for one that is made outside this middleware."""
    return {"Server-Timing": _total(scope[_BEGAN]), ID_HEADER: current_request_id()}


def _total(began: float) -> str:
    return f"total;dur={(time.perf_counter() - began) * 1000:.2f}"


class _TimedSend:
    """Sends the response with X-Request-Id, and Server-Timing if the endpoint did not add it. Remembers the status.

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
            own = message.setdefault("headers", [])
            headers = [*own, (_RAW_ID_HEADER, current_request_id().encode())]
            if b"server-timing" not in dict(own):
                headers.append((b"server-timing", _total(self._began).encode()))
            message["headers"] = headers
        await self._send(message)
