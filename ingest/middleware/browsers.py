"""Protects browsers: limits what they do with a response, and refuses what the page of another site sends.

A browser lets any page send a POST to any address that it can reach, including this machine, with the credentials
that the browser remembers. CORS only hides the response from that page. Requests that change nothing are left to CORS.
"""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.errors import CrossOriginRequest
from ingest.paths import SAFE_METHODS
from ingest.responses import send_problem

#: The headers of each response whose endpoint sets no others. A response is data: it is no page, runs no script,
#: appears in no frame, and no cache may keep it.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_RAW: Final = {name.lower().encode(): value.encode() for name, value in SECURITY_HEADERS.items()}


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
                missing = _RAW.copy()
                for name, _ in own:
                    missing.pop(name, None)
                message["headers"] = [*own, *missing.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class SameOriginMiddleware:
    """Refuses a request that may change something and comes from the page of another origin that is not `allowed`."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Most requests come from programs, which send no Origin.
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and b"origin" in dict(scope["headers"]):
            headers = Headers(scope=scope)
            if not self._trusts(headers["origin"], headers.get("host", "")):
                problem = CrossOriginRequest(
                    "Pages of this origin may not use the service. The operator can list it in SLUICE_CORS_ORIGINS "
                    "(cors_origins)."
                )
                await send_problem(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _trusts(self, origin: str, host: str) -> bool:
        # By host and port alone: behind a proxy that ends TLS, the scheme differs from the one seen here.
        same = bool(host) and origin.partition("://")[2] == host
        return same or origin in self._allowed or "*" in self._allowed
