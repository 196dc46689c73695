"""Problems in the protocol's form, `{"error": "..."}`. Knows no problem in particular."""

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from ingest.errors import Problem
from ingest.metrics import PROBLEMS

Endpoint = Callable[[Request], Awaitable[Response]]


class Error(TypedDict):
    """What went wrong."""

    error: str


def error_response(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Error(error=detail), status_code=status, headers=headers)


def is_protocol(path: str) -> bool:
    """Whether this path is one of the protocol's."""
    return path == "/v2" or path.startswith("/v2/")


def error_of(problem: Problem) -> JSONResponse:
    PROBLEMS.labels(problem.code).inc()
    return error_response(problem.status, problem.detail, problem.headers())


def in_protocol(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with each Problem that it raises answered in the protocol's form."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            return error_of(problem)

    return answered


class Nowhere:
    """Answers every other path below /v2, of extensions that are not here among them. ASGI."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        near = [route for route in self._routes if route.matches(scope)[0] is Match.PARTIAL]
        allowed = sorted({method for route in near for method in route.methods or ()})
        if allowed:
            detail = f"{scope['method']} makes no sense here; use {' or '.join(allowed)}."
            response = error_response(405, detail, {"Allow": ", ".join(allowed)})
        else:
            response = error_response(404, f"There is no {scope['path'][:200]!r}, or it is of an extension not here.")
        await response(scope, receive, send)
