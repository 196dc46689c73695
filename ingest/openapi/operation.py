"""Operations: what an endpoint takes and answers, declared beside it. Pure, knows no endpoint in particular.

The types of answers are those that the endpoints build (mypy holds them to it), the problems are the classes that
they raise, limits and names are the constants that they check by.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import TypeForm

from ingest.errors import Problem

Endpoint = Callable[[Request], Awaitable[Response]]

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Header:
    """A header of an answer; one that is not `always` there is there where its description says."""

    name: str
    description: str
    always: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `kind` is the type of its JSON, None where it has no JSON body."""

    description: str
    kind: TypeForm[Any] | None = None
    media_type: str | None = JSON
    headers: Sequence[Header] = ()
    #: Other media types of the same answer, with their schemas.
    others: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, the path or a header, with its JSON schema."""

    name: str
    place: str
    description: str
    #: Or what gives it for the most classes that a served model has, None where none is served.
    schema: Mapping[str, Any] | Callable[[int | None], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body: what stands in the document for each media type that is taken."""

    description: str
    content: Mapping[str, Mapping[str, Any]]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """What one route does."""

    summary: str
    answers: Mapping[int, Answer]
    problems: Sequence[type[Problem]] = ()
    parameters: Sequence[Parameter] = ()
    body: Body | None = None


class Described(Route):
    """A route that says what it does, method by method where it has several."""

    def __init__(self, path: str, endpoint: Endpoint, operations: Operation | Mapping[str, Operation]) -> None:
        self.operations = {"GET": operations} if isinstance(operations, Operation) else dict(operations)
        super().__init__(path, endpoint, methods=list(self.operations))
