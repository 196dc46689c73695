"""Refuses requests without a valid API key."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.auth.api_keys import ReloadingKeyring, StoredKey
from ingest.auth.owner import set_owner
from ingest.auth.schemes import HOW_TO_SEND, presented_key
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
    key = presented_key(headers)
    found = keys.find(key) if key else None
    if found is None:
        raise _unauthorized(key)
    return found


def _unauthorized(key: str) -> Unauthorized:
    if key:
        return Unauthorized("This API key is not known here. Ask the operator for one.")
    return Unauthorized(f"An API key is needed. {HOW_TO_SEND}")
