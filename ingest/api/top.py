"""`top`: how many labels a client wants to see. Knows no model, only how many classes it has."""

from typing import Any, Final

from starlette.requests import Request

from ingest.errors import BadParameter

NAME: Final = "top"
_DEFAULT: Final = 5
_LEAST: Final = 1


def top_of(request: Request, *, classes: int) -> int:
    """What the request says; raises BadParameter."""
    asked = request.query_params.getlist(NAME)
    if not asked:
        return min(_DEFAULT, classes)
    one = asked[0]
    if not (len(asked) == 1 and one.isascii() and one.isdecimal() and _LEAST <= int(one[:9]) <= classes):
        shown = ", ".join(asked)[:40]
        raise BadParameter(f"top is {shown!r}; it must be one whole number from {_LEAST} to {classes}.")
    return int(one)


def schema(classes: int | None) -> dict[str, Any]:
    """What is taken, of a model with so many classes; without an end where nobody knows how many."""
    bounds = {"minimum": _LEAST} if classes is None else {"minimum": _LEAST, "maximum": classes}
    return {"type": "integer", "default": min(_DEFAULT, classes or _DEFAULT), **bounds}
