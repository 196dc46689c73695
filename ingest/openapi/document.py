"""The OpenAPI 3.1 document, made from the operations that the application's routes declare."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.routing import BaseRoute, Route

from ingest.auth.schemes import SECURITY_SCHEMES
from ingest.errors import (
    MEDIA_TYPE,
    BulkKey,
    CrossOriginRequest,
    ImageNotFetched,
    Problem,
    ProblemDocument,
    StreamUnavailable,
    TooManyRequests,
    Unauthorized,
)
from ingest.openapi.operation import EXAMPLE_ID, JSON, DocumentedResponse, DocumentedRoute, Operation, Parameter
from ingest.openapi.schemas import Schemas
from ingest.paths import SAFE_METHODS, is_open, is_protocol
from ingest.responses import ProtocolError

#: The headers of each response.
_OF_ALL: Final = {
    "Server-Timing": {
        "description": "Where the time went, in ms; only the total where X-Sluice-Batch is missing",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {"description": "The id of the request, which logs name", "schema": {"type": "string"}},
}

#: The groups of routes, each with the beginnings of its paths. The first match counts.
_GROUPS: Final = {
    "Predict": ("/predict",),
    "Results": ("/results",),
    "Models": ("/models",),
    "Open Inference Protocol": ("/v2",),
    "TensorFlow Serving": ("/v1",),
    "Operations": ("/healthz", "/readyz", "/metrics", "/live", "/dead-letters"),
    "Page and reference": ("/",),
}

#: Examples of what paths name, besides models and versions.
_IN_PATH: Final = {"id": EXAMPLE_ID, "name": "icon.svg", "label": "stable"}


class UndocumentedRoute(TypeError):
    """A route without an operation."""


@dataclass(frozen=True, slots=True)
class Service:
    """The settings and the state of the service that the document depends on.

    `classes` is the largest number of classes of a served model; None if no model is served. `model` and its
    `model_version` are served, and examples name them; they are empty if none is.
    """

    version: str
    keys: bool
    limited: bool
    classes: int | None
    model: str = ""
    model_version: str = ""


class Document:
    """Builds the document; raises UndocumentedRoute."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._schemas = Schemas()

    def build(self, routes: Iterable[BaseRoute]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for route in routes:
            if isinstance(route, DocumentedRoute):
                operations = {method.lower(): self._operation(route, method) for method in route.operations}
                paths[route.path_format] = operations
            elif not isinstance(route, Route) or route.include_in_schema:
                raise UndocumentedRoute(f"{route} has no operation; make it a DocumentedRoute")
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Sluice",
                "version": self._service.version,
                "description": "Classifies images with a Keras model.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": [{"name": name} for name in _GROUPS],
            "paths": paths,
            "components": {
                "schemas": self._schemas.components,
                **({"securitySchemes": SECURITY_SCHEMES} if self._service.keys else {}),
            },
        }

    def _operation(self, route: DocumentedRoute, method: str) -> dict[str, Any]:
        operation = route.operations[method]
        names = re.findall(r"{(\w+)", route.path_format)
        written: dict[str, Any] = {
            "tags": [next(name for name, beginnings in _GROUPS.items() if route.path_format.startswith(beginnings))],
            "summary": operation.summary,
            "operationId": "_".join([method.lower(), *re.findall(r"\w+", route.path_format)]),
            "parameters": [self._in_path(name) for name in names]
            + [self._parameter(one) for one in operation.parameters],
            "responses": {str(status): self._response(one) for status, one in operation.responses.items()}
            | self._problems(route.path_format, method, operation),
        }
        if operation.body:
            body = operation.body
            written["requestBody"] = {
                "description": body.description, "required": body.required, "content": dict(body.content)
            }  # fmt: skip
        if self._service.keys:
            written["security"] = [] if is_open(route.path_format) else [{name: []} for name in SECURITY_SCHEMES]
        return written

    def _in_path(self, name: str) -> dict[str, Any]:
        service = self._service
        known = {"model": service.model, "version": service.model_version, **_IN_PATH}
        example = {"example": known[name]} if known.get(name) else {}
        return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}, **example}

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = parameter.schema(self._service.classes) if callable(parameter.schema) else parameter.schema
        return {
            "name": parameter.name, "in": parameter.location, "description": parameter.description, "schema": schema
        }  # fmt: skip

    def _response(self, response: DocumentedResponse) -> dict[str, Any]:
        headers = _OF_ALL | {
            one.name: {"description": one.description, "required": one.always, "schema": {"type": "string"}}
            for one in response.headers
        }
        written: dict[str, Any] = {"description": response.description, "headers": headers}
        if response.media_type:
            schema = {"type": "string"} if response.kind is None else self._schemas.schema_for(response.kind)
            written["content"] = {response.media_type: {"schema": schema}, **response.others}
        return written

    def _problems(self, path: str, method: str, operation: Operation) -> dict[str, Any]:
        declared = [one for one in operation.problems if self._service.keys or one is not BulkKey]
        found: list[type[Problem]] = [Problem, *declared, *self._middleware_problems(path, method)]
        statuses = {one.status for one in found} | ({404} if "{" in path else set())
        return {str(status): self._problem(path, status, found) for status in sorted(statuses)}

    def _middleware_problems(self, path: str, method: str) -> Sequence[type[Problem]]:
        """The problems that middleware responds with before any endpoint runs."""
        found: list[type[Problem]] = [] if method in SAFE_METHODS else [CrossOriginRequest]
        if self._service.keys and not is_open(path):
            found.append(Unauthorized)
        if self._service.limited and not is_open(path):
            found += [TooManyRequests, StreamUnavailable]
        return found

    def _problem(self, path: str, status: int, found: Sequence[type[Problem]]) -> dict[str, Any]:
        here = sorted({one for one in found if one.status == status}, key=lambda one: one.code)
        kinds = [(one.code, one.title) for one in here] + ([("not_found", "Not Found")] if status == 404 else [])
        titles = dict.fromkeys(title for _, title in kinds)
        written: dict[str, Any] = {"description": "; ".join(titles), "headers": _problem_headers(status)}
        if is_protocol(path):
            return {**written, "content": {JSON: {"schema": self._schemas.schema_for(ProtocolError)}}}
        # A plain reference: generators of clients cannot merge the schema with the values of one status.
        examples = {code: {"summary": title, "value": _example(status, code, title)} for code, title in kinds}
        schema = self._schemas.schema_for(ProblemDocument)
        return {**written, "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}}}


def _example(status: int, code: str, title: str) -> dict[str, Any]:
    return {
        "type": "about:blank" if code == "not_found" else f"urn:sluice:problem:{code}",
        "title": title,
        "status": status,
        "detail": "What was wrong, and what to do.",
        "code": code,
        "success": False,
    }


def _problem_headers(status: int) -> dict[str, Any]:
    names = {401: "WWW-Authenticate", 422: "Retry-After", 429: "Retry-After", 503: "Retry-After"}
    if status not in names:
        return dict(_OF_ALL)
    required = status != ImageNotFetched.status  # Only some causes of it may pass.
    return {**_OF_ALL, names[status]: {"required": required, "schema": {"type": "string"}}}
