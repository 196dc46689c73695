"""Protects against cross-site request forgery: the page of another site can change nothing with its visitor's rights.

A browser lets any page send a POST to any address that it can reach, including this machine, with the credentials
that the browser remembers. CORS only hides the response from that page. Requests that change nothing are left to CORS.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.errors import CrossOriginRequest
from ingest.paths import SAFE_METHODS
from ingest.responses import send_problem


class SameOriginMiddleware:
    """Refuses a request that may change something and comes from the page of another origin that is not `allowed`."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._trusts(origin, headers.get("host", "")):
                problem = CrossOriginRequest(
                    "Pages of this origin may not use the service. The operator can allow them."
                )
                await send_problem(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _trusts(self, origin: str, host: str) -> bool:
        # By host and port alone: behind a proxy that ends TLS, the scheme differs from the one seen here.
        same = bool(host) and origin.partition("://")[2] == host
        return same or origin in self._allowed or "*" in self._allowed
