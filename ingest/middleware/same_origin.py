"""Origin: no other site's page changes anything here with its visitor's rights. ASGI, knows no endpoint.

A browser lets any page send a POST to any address that it can reach, this machine's own among them, with the
credentials that it remembers; CORS only keeps the answer from the page. What changes nothing is left to CORS.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.errors import ForeignOrigin
from ingest.refusal import refuse

CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """Refuses requests that may change something and come from another origin's page, unless it is allowed."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in CHANGES_NOTHING:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._trusts(origin, headers.get("host", "")):
                refusal = ForeignOrigin("Pages of this origin may not use the service. Its operator can allow them.")
                await refuse(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _trusts(self, origin: str, host: str) -> bool:
        # By host and port alone: before a proxy that ends TLS, the scheme is another one than here.
        own = bool(host) and origin.partition("://")[2] == host
        return own or origin in self._allowed or "*" in self._allowed
