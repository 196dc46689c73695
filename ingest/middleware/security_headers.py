"""Adds headers that limit what a browser does with a response."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The headers of each response whose endpoint sets no others. A response is data: it is no page, runs no script,
#: appears in no frame, and no cache may keep it.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class SecurityHeadersMiddleware:
    """Adds the security headers that the response does not have yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.setdefault("headers", [])
                set_already = {name for name, _ in own}
                message["headers"] = [*own, *(pair for pair in _RAW if pair[0] not in set_already)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
