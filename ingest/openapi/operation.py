"""How an endpoint declares what it accepts and returns. The declaration is in the endpoint's own file.

The types of responses are those that endpoints build (mypy checks it), problems are the classes that they raise, and
limits and names are the constants that they check by.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from typing_extensions import TypeForm

from ingest.errors import Problem

Endpoint = Callable[[Request], Awaitable[Response]]

JSON: Final = "application/json"

#: The request id of examples.
EXAMPLE_ID: Final = "0dc4e132ea6449a0a3e49e0b06f4aa32"

#: The image of examples in JSON: a GIF with one pixel. All of its bytes are ASCII, so text can hold it.
EXAMPLE_IMAGE: Final = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
EXAMPLE_BASE64: Final = base64.b64encode(EXAMPLE_IMAGE).decode()


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a response. If it is not `always` there, its description says when it is."""

    name: str
    description: str
    always: bool = False


@dataclass(frozen=True, slots=True)
class DocumentedResponse:
    """A successful response. `kind` is the type of its JSON, None if the body is not JSON."""

    description: str
    kind: TypeForm[Any] | None = None
    media_type: str | None = JSON
    headers: Sequence[Header] = ()
    #: Other media types of the same response, with their schemas.
    others: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its JSON schema. `location` is query, path or header."""

    name: str
    location: str
    description: str
    #: The schema, or a function that returns it for the largest number of classes served (None: nothing is served).
    schema: Mapping[str, Any] | Callable[[int | None], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body: the document's entry for each media type that is accepted."""

    description: str
    content: Mapping[str, Mapping[str, Any]]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a route does."""

    summary: str
    responses: Mapping[int, DocumentedResponse]
    problems: Sequence[type[Problem]] = ()
    parameters: Sequence[Parameter] = ()
    body: Body | None = None


class DocumentedRoute(Route):
    """A route with its operation, or with one for each method."""

    def __init__(
        self, path: str, endpoint: Endpoint | ASGIApp, operations: Operation | Mapping[str, Operation]
    ) -> None:
        self.operations = {"GET": operations} if isinstance(operations, Operation) else dict(operations)
        super().__init__(path, endpoint, methods=list(self.operations))
