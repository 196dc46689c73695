"""Paths and methods that several parts of ingest must recognise: endpoints, middleware and the OpenAPI document."""

from typing import Final

#: Orchestrators and load balancers have no key. They learn here only whether the service is up.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_OPEN_BELOW: Final = "/v2/health/"

#: Where the result of a request is, as Starlette writes a route.
RESULT_PATH: Final = "/results/{id}"

#: Below these roots are the inference protocols of other servers. Their errors are `{"error": "..."}`.
_PROTOCOLS: Final = ("/v1", "/v2")

#: Methods that change nothing (RFC 9110, 9.2.1).
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

#: Machines read these again and again, or without an end: their traces would only hide the others.
_UNTRACED: Final = frozenset({"/metrics", "/live"})


def result_url(request_id: str, threshold: float | None) -> str:
    """The path of a request's result, without the labels below the threshold."""
    query = "" if threshold is None else f"?threshold={threshold}"
    return RESULT_PATH.format(id=request_id) + query


def is_protocol(path: str) -> bool:
    """Whether this path belongs to the inference protocol of another server."""
    return any(path == root or path.startswith(f"{root}/") for root in _PROTOCOLS)


def is_open(path: str) -> bool:
    """Whether this path needs no API key."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def is_limited(path: str) -> bool:
    """Whether requests to this path count for a rate limit. The counts are in Redis, so what an operator needs while
    Redis is unavailable must not depend on them."""
    return not (is_open(path) or is_page(path) or path == "/metrics")


def is_page(path: str) -> bool:
    """Whether this path is the page or one of its files, which cost nothing to send."""
    return path in {"/", "/docs"} or path.startswith("/page/")


def is_traced(path: str) -> bool:
    """Whether a trace of a request to this path is worth keeping."""
    return not (is_open(path) or is_page(path) or path in _UNTRACED)
