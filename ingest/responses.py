"""The bodies and headers of responses: predictions, queued requests and problems.

Under the paths of an inference protocol a problem is `{"error": "..."}`, elsewhere a problem document (RFC 9457).
"""

import json
from collections.abc import Sequence
from typing import Final, Literal

from starlette import responses
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from ingest.errors import MEDIA_TYPE, Problem, ProblemDocument
from ingest.metrics import PROBLEMS
from ingest.paths import is_protocol, result_url
from results.outcome import Done

#: Digits of a probability after the point: float32 has seven significant ones.
_DIGITS: Final = 7

#: As Starlette writes JSON. It would make an encoder for each response.
_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class JSONResponse(responses.JSONResponse):
    """JSON with a final newline, so that a shell's prompt begins on a line of its own."""

    def render(self, content: object) -> bytes:
        return (_to_json(content) + "\n").encode()


class Label(TypedDict):
    """A class of the model and its probability."""

    label: str
    probability: float


class Prediction(TypedDict):
    """One image's labels, most probable first, with the model and version that computed them."""

    success: Literal[True]
    predictions: list[Label]
    model: str
    version: str
    id: str


class Values(TypedDict):
    """One image's values, in the order of the model's outputs, from a model that gives values instead of labels."""

    success: Literal[True]
    values: list[float]
    model: str
    version: str
    id: str


class Queued(TypedDict):
    """One image that has no result yet, and the URL where the result will be."""

    success: Literal[True]
    status: Literal["queued"]
    id: str
    location: str


class Failure(TypedDict):
    """One image of several that failed."""

    success: Literal[False]
    error: ProblemDocument


class NamedPrediction(Prediction):
    """A prediction, with the file name that the client gave."""

    filename: str | None


class NamedValues(Values):
    """Values, with the file name that the client gave."""

    filename: str | None


class NamedQueued(Queued):
    """A queued image, with the file name that the client gave."""

    filename: str | None


class NamedFailure(Failure):
    """A failure, with the file name that the client gave."""

    filename: str | None


Named = NamedPrediction | NamedValues | NamedQueued | NamedFailure


class Results(TypedDict):
    """Several images, in the order sent."""

    success: Literal[True]
    results: list[Named]


class ProtocolError(TypedDict):
    """A problem as the inference protocols write it."""

    error: str


def prediction(done: Done, *, model: str, labels: Sequence[str], threshold: float | None = None) -> Prediction | Values:
    """The response to one image; labels below the threshold are left out."""
    if done.output_kind == "values":
        values = [float(f"{value:.9g}") for value in done.probabilities]
        return {"success": True, "values": values, "model": model, "version": done.version, "id": done.id}
    ranked = zip(done.indices, done.probabilities, strict=True)
    least = -1.0 if threshold is None else threshold
    return {
        "success": True,
        "predictions": [
            {"label": labels[index], "probability": round(value, _DIGITS)} for index, value in ranked if value >= least
        ],
        "model": model,
        "version": done.version,
        "id": done.id,
    }


def named(filename: str | None, result: Prediction | Values | Queued | Failure) -> Named:
    """The result of one image of several."""
    return {"filename": filename, **result}  # type: ignore[return-value]


def failure(problem: Problem) -> Failure:
    return {"success": False, "error": problem.document()}


def timing_headers(done: Done, *, decode_ms: float, total_ms: float) -> dict[str, str]:
    """Headers that say where the time went (Server-Timing, milliseconds), what ran the image, and in which batch."""
    timing = {"decode": decode_ms, "queue": done.queue_ms, "inference": done.run_ms, "total": total_ms}
    return {
        "Server-Timing": ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in timing.items()),
        "X-Sluice-Provider": done.provider,
        "X-Sluice-Batch": str(done.batch),
    }


def cache_status(results: Sequence[Done], *, enabled: bool) -> dict[str, str]:
    """The header that says whether all of these came from the cache (RFC 9211). There is none without a cache."""
    if not enabled or not results:
        return {}
    return {"Cache-Status": "sluice; hit" if all(done.cached for done in results) else "sluice; fwd=miss"}


def problem_response(problem: Problem, path: str, *, threshold: float | None = None) -> JSONResponse:
    """The problem in the form that clients of this path read.

    If the image was accepted, it has the URL of the result, without the labels below the threshold.
    """
    PROBLEMS.labels(problem.code).inc()
    headers = problem.headers()
    if problem.request_id is not None:
        headers["Location"] = result_url(problem.request_id, threshold)
    if is_protocol(path):
        return protocol_error(problem.status, problem.detail, headers)
    return JSONResponse(problem.document(), problem.status, headers, MEDIA_TYPE)


def protocol_error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(ProtocolError(error=detail), status, headers)


async def send_problem(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond from a middleware, before any endpoint has seen the request."""
    await problem_response(problem, scope["path"])(scope, receive, send)


async def on_problem(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for every Problem."""
    assert isinstance(error, Problem)
    return problem_response(error, request.url.path)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for its own errors, 404 and 405."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    path = request.url.path
    use = headers.get("Allow", "").replace(", ", " or ")
    missing = f"There is no {path[:200]!r} here. /openapi.json lists what there is."
    detail = f"{request.method} is not supported here. Use {use}." if use else missing
    if is_protocol(path):
        return protocol_error(error.status_code, detail, headers)
    document = {
        "type": "about:blank",
        "title": error.detail,
        "status": error.status_code,
        "detail": detail,
        "code": error.detail.lower().replace(" ", "_"),
        "success": False,
    }
    return JSONResponse(document, error.status_code, headers, MEDIA_TYPE)


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """Starlette's exception handler for ClientDisconnect. Nobody reads it; 499 is nginx's status for the same."""
    return Response(status_code=499)
