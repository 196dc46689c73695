"""Refusals: a Problem answered before any endpoint has its say, in the form that the client of this path reads.

ASGI, knows no problem in particular.
"""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.errors import Problem
from ingest.oip.errors import error_of, is_protocol
from ingest.responses import problem_response


def refusal(problem: Problem, path: str) -> Response:
    """Below /v2 the Open Inference Protocol's error, everywhere else a problem document."""
    return error_of(problem) if is_protocol(path) else problem_response(problem)


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    await refusal(problem, scope["path"])(scope, receive, send)
