"""Who makes a call, and whether they may: API keys and rate limits, by the rules and the code of HTTP."""

from typing import Final
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ingest.auth.api_keys import ReloadingKeyring
from ingest.auth.owner import set_owner
from ingest.grpc_api.context import Metadata
from ingest.middleware.auth import authenticate
from ingest.middleware.rate_limit import RateLimit, refusal

#: Calls that need no key and do not count: health, as over HTTP.
_INFERENCE: Final = "/inference.GRPCInferenceService/"
_OPEN: Final = frozenset({f"{_INFERENCE}ServerLive", f"{_INFERENCE}ServerReady"})
_OPEN_BELOW: Final = "/grpc.health.v1.Health/"


def is_open(method: str) -> bool:
    """Whether this method needs no API key and counts for no rate limit."""
    return method in _OPEN or method.startswith(_OPEN_BELOW)


def is_traced(method: str) -> bool:
    """Whether a trace of this call is worth keeping: health checks and reflection would hide the others."""
    return method.startswith(_INFERENCE) and not is_open(method)


class Access:
    """Admits calls. Without `keys` nobody needs one; without a `limit` there is none."""

    def __init__(self, keys: ReloadingKeyring | None, limit: RateLimit | None, *, trusted_proxies: str) -> None:
        self._keys = keys
        self._limit = limit
        self._proxies = ProxyHeadersMiddleware(_nothing, trusted_proxies)

    def authenticate(self, metadata: Metadata) -> None:
        """Work for the owner of the key in the metadata from now on; raises Unauthorized."""
        if self._keys is not None:
            key = authenticate(_headers(metadata), self._keys)
            set_owner(key.name, key.marks)

    async def count(self, metadata: Metadata, peer: str, trailing: dict[str, str]) -> None:
        """Count a request of the owner, or of the address, and add what is left to the `trailing` metadata.

        Raises TooManyRequests and StreamUnavailable.
        """
        if self._limit is None:
            return
        scope: Scope = {"type": "http", "client": (_host(peer), 0), "headers": _headers(metadata).raw}
        # Sets the client of the scope to the one that a trusted proxy names.
        await self._proxies(scope, _nothing, _nothing)  # type: ignore[arg-type]
        state = await self._limit.admit(scope)
        trailing.update({name.lower(): value for name, value in self._limit.headers(state).items()})
        if state.wait_s:
            raise refusal(state)


async def _nothing(*_: object) -> None:
    """The application below the middleware, which has done its work before."""


def _headers(metadata: Metadata) -> Headers:
    pairs = ((name, value if isinstance(value, bytes) else value.encode()) for name, value in metadata)
    return Headers(raw=[(name.encode(), value) for name, value in pairs])


def _host(peer: str) -> str:
    """The address in gRPC's name of a peer, as ipv4:127.0.0.1:50000 or ipv6:%5B::1%5D:50000; else empty."""
    family, _, address = peer.partition(":")
    return unquote(address.rpartition(":")[0]).strip("[]") if family in {"ipv4", "ipv6"} else ""
