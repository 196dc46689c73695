"""The stopwatch: how long each classification took, for the page's last minute. ASGI, knows no endpoint."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.dashboard.request_window import Recent

#: An answer that says nothing of its status: the client had gone (ingest/app.py).
_NOBODY = 499


class Stopwatch:
    """Notes what is posted to be classified, from the request's first byte to the answer's last."""

    def __init__(self, app: ASGIApp, recent: Recent) -> None:
        self._app = app
        self._recent = recent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _classifies(scope):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, batch = _NOBODY, 0

        async def sending(message: Message) -> None:
            nonlocal status, batch
            if message["type"] == "http.response.start":
                status, batch = message["status"], _batch(message)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if status != _NOBODY:
                self._recent.note(status, time.perf_counter() - began, batch=batch)


def _classifies(scope: Scope) -> bool:
    path: str = scope["path"]
    return bool(scope["method"] == "POST") and (path.startswith("/predict") or path.endswith("/infer"))


def _batch(start: Message) -> int:
    return next((int(value) for name, value in start.get("headers", ()) if name == b"x-sluice-batch"), 0)
