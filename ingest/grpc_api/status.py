"""How a problem ends a call: its gRPC status, its sentence, and metadata for programs."""

from typing import Final

import grpc

from ingest.errors import Problem
from ingest.middleware.request_metrics import CLIENT_GONE

#: By the status over HTTP. All others are faults of the request, which must not be repeated as it is.
_CODES: Final = {
    200: grpc.StatusCode.OK,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    410: grpc.StatusCode.CANCELLED,
    CLIENT_GONE: grpc.StatusCode.CANCELLED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def status_code(problem: Problem) -> grpc.StatusCode:
    """The status of a call that ends with this problem."""
    return code_of(problem.status)


def code_of(status: int) -> grpc.StatusCode:
    """The status of a call that would have this one over HTTP."""
    return _CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT)


def problem_metadata(problem: Problem) -> dict[str, str]:
    """Trailing metadata: the problem's code, when to call again, and the id of the request."""
    metadata = {"sluice-problem": problem.code}
    if (retry_after := problem.headers().get("Retry-After")) is not None:
        metadata["retry-after"] = retry_after
    if problem.request_id is not None:
        metadata["sluice-request-id"] = problem.request_id
    return metadata
