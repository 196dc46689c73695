"""Access: who may ask. ASGI, knows no endpoint and no Redis."""

import base64
import binascii

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.auth.keyfile import KeyFile
from ingest.auth.owner import enter
from ingest.errors import Unauthorized
from ingest.refusal import refuse

#: Open to all: orchestrators and load balancers have no key, and learn here only whether there is anybody.
_OPEN = frozenset({"/healthz", "/readyz"})
_OPEN_BELOW = "/v2/health/"


def is_open(path: str) -> bool:
    """Whether this path needs no key and counts for no limit."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


class Access:
    """Lets requests with a key pass, in their owner's name, and answers all others 401 before their body is read."""

    def __init__(self, app: ASGIApp, keys: KeyFile) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            key = _presented(Headers(scope=scope))
            name = self._keys.owner(key) if key else None
            if name is None:
                await refuse(_unauthorized(key), scope, receive, send)
                return
            enter(name)
        await self._app(scope, receive, send)


def _presented(headers: Headers) -> str:
    """The key of a request, empty where it has none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic" if "x-api-key" not in headers:
            return _password(credentials)
        case _:
            # Beside a key of ours, a name and a password are for a proxy on the way.
            return headers.get("x-api-key", "")


def _password(credentials: str) -> str:
    """What a browser was told when it asked for a name and a password (RFC 7617); any name will do."""
    try:
        return base64.b64decode(credentials).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _unauthorized(key: str) -> Unauthorized:
    if key:
        return Unauthorized("This API key is not known here. Ask the operator for one.")
    return Unauthorized(
        "An API key is needed. Send it as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or from a browser as the "
        "password of any user."
    )
