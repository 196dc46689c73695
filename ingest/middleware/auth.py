"""Refuses requests without a valid API key."""

import base64
import binascii

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.auth.api_keys import ReloadingKeyring, StoredKey
from ingest.auth.owner import set_owner
from ingest.errors import Unauthorized
from ingest.paths import is_open
from ingest.responses import send_problem


class AuthMiddleware:
    """Passes on requests with a valid key, in the name of its owner. All others get 401 before their body is read."""

    def __init__(self, app: ASGIApp, keys: ReloadingKeyring) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                key = authenticate(Headers(scope=scope), self._keys)
                set_owner(key.name, key.marks)
            except Unauthorized as problem:
                await send_problem(problem, scope, receive, send)
                return
        await self._app(scope, receive, send)


def authenticate(headers: Headers, keys: ReloadingKeyring) -> StoredKey:
    """The stored form of the key that a request presents; raises Unauthorized."""
    key = _presented_key(headers)
    found = keys.find(key) if key else None
    if found is None:
        raise _unauthorized(key)
    return found


def _presented_key(headers: Headers) -> str:
    """The API key of a request, or an empty text."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic" if "x-api-key" not in headers:
            return _password(credentials)
        case _:
            # If the request has an API key as well, the name and password are for a proxy on the way.
            return headers.get("x-api-key", "")


def _password(credentials: str) -> str:
    """The password that a user gave to a browser's dialogue (RFC 7617). The user name does not matter."""
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
