"""The document: OpenAPI 3.1 from the routes of the application, each of which says what it does. Knows no Redis."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.routing import BaseRoute, Route

from ingest.errors import (
    MEDIA_TYPE,
    ForeignOrigin,
    Problem,
    ProblemDocument,
    StreamUnavailable,
    TooManyRequests,
    Unauthorized,
)
from ingest.paths import is_open
from ingest.paths import SAFE_METHODS
from ingest.oip.errors import Error, is_protocol
from ingest.openapi.operation import JSON, Answer, Described, Operation, Parameter
from ingest.openapi.schemas import Schemas

_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the API key is the password."},
}

_TIMING: Final = {"Server-Timing": {"description": "Where the time went, in ms", "schema": {"type": "string"}}}


class Undescribed(TypeError):
    """A route that does not say what it does."""


@dataclass(frozen=True, slots=True)
class Service:
    """What of the service's settings and state the document depends on."""

    version: str
    keys: bool
    limited: bool
    classes: int | None


class Document:
    """Puts the document together; raises Undescribed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._schemas = Schemas()

    def of(self, routes: Iterable[BaseRoute]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for route in routes:
            if isinstance(route, Described):
                paths[route.path] = {method.lower(): self._operation(route, method) for method in route.operations}
            elif not isinstance(route, Route) or route.include_in_schema:
                raise Undescribed(f"{route} does not say what it does; make it a Described")
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Sluice",
                "version": self._service.version,
                "description": "Photographs in, labels out.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": self._schemas.components,
                **({"securitySchemes": _SECURITY} if self._service.keys else {}),
            },
        }

    def _operation(self, route: Described, method: str) -> dict[str, Any]:
        operation = route.operations[method]
        names = re.findall(r"{(\w+)", route.path)
        written: dict[str, Any] = {
            "summary": operation.summary,
            "operationId": "_".join([method.lower(), *re.findall(r"\w+", route.path)]),
            "parameters": [_in_path(name) for name in names] + [self._parameter(one) for one in operation.parameters],
            "responses": {str(status): self._answer(answer) for status, answer in operation.answers.items()}
            | self._problems(route.path, method, operation),
        }
        if operation.body:
            body = operation.body
            written["requestBody"] = {
                "description": body.description, "required": body.required, "content": dict(body.content)
            }  # fmt: skip
        if self._service.keys:
            written["security"] = [] if is_open(route.path) else [{name: []} for name in _SECURITY]
        return written

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = parameter.schema(self._service.classes) if callable(parameter.schema) else parameter.schema
        return {"name": parameter.name, "in": parameter.place, "description": parameter.description, "schema": schema}

    def _answer(self, answer: Answer) -> dict[str, Any]:
        headers = _TIMING | {
            one.name: {"description": one.description, "required": one.always, "schema": {"type": "string"}}
            for one in answer.headers
        }
        written: dict[str, Any] = {"description": answer.description, "headers": headers}
        if answer.media_type:
            schema = {"type": "string"} if answer.kind is None else self._schemas.of(answer.kind)
            written["content"] = {answer.media_type: {"schema": schema}, **answer.others}
        return written

    def _problems(self, path: str, method: str, operation: Operation) -> dict[str, Any]:
        found: list[type[Problem]] = [Problem, *operation.problems, *self._at_the_entrance(path, method)]
        statuses = {one.status for one in found} | ({404} if "{" in path else set())
        return {str(status): self._problem(path, status, found) for status in sorted(statuses)}

    def _at_the_entrance(self, path: str, method: str) -> Sequence[type[Problem]]:
        """What the guards answer before any endpoint does."""
        found: list[type[Problem]] = [] if method in SAFE_METHODS else [ForeignOrigin]
        if self._service.keys and not is_open(path):
            found.append(Unauthorized)
        if self._service.limited and not is_open(path):
            found += [TooManyRequests, StreamUnavailable]
        return found

    def _problem(self, path: str, status: int, found: Sequence[type[Problem]]) -> dict[str, Any]:
        here = sorted({one for one in found if one.status == status}, key=lambda one: one.code)
        titles = [one.title for one in here] + (["Not found"] if status == 404 else [])
        written: dict[str, Any] = {"description": "; ".join(dict.fromkeys(titles)), "headers": _problem_headers(status)}
        if is_protocol(path):
            return {**written, "content": {JSON: {"schema": self._schemas.of(Error)}}}
        codes = [one.code for one in here] + (["not_found"] if status == 404 else [])
        own = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
        return {**written, "content": {MEDIA_TYPE: {"schema": {"allOf": [self._schemas.of(ProblemDocument), own]}}}}


def _problem_headers(status: int) -> dict[str, Any]:
    names = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    if status not in names:
        return dict(_TIMING)
    return {**_TIMING, names[status]: {"required": True, "schema": {"type": "string"}}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
