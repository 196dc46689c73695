"""The place where a request's result is found. Knows no request and no result."""

from typing import Final

#: The route, as Starlette reads it.
RESULT: Final = "/results/{id}"


def place_of(request_id: str) -> str:
    """The path of a request's result."""
    return RESULT.format(id=request_id)
