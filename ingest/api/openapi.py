"""`GET /openapi.json`: the OpenAPI document of the service in its present state."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ingest.dispatch.registry import ModelRegistry
from ingest.openapi.document import Document, Service
from ingest.openapi.operation import DocumentedResponse, Operation
from ingest.responses import JSONResponse
from stream.host.packages import own_version

_Document = Annotated[dict[str, Any], Field(examples=[{"openapi": "3.1.0", "paths": {}}])]

OPENAPI: Final = Operation("Get this document", {200: DocumentedResponse("OpenAPI 3.1.", _Document)})


class OpenApiEndpoint:
    """The endpoint. It reads the application's routes at each request."""

    def __init__(self, routes: Sequence[BaseRoute], registry: ModelRegistry, *, keys: bool, limited: bool) -> None:
        self._routes = routes
        self._registry = registry
        self._keys = keys
        self._limited = limited

    async def __call__(self, _request: Request) -> Response:
        served = [self._registry.find(name).model for name in self._registry.accepting]
        classes = max((len(model.labels) for model in served), default=None)
        first = next(iter(served), None)
        service = Service(
            own_version(),
            keys=self._keys,
            limited=self._limited,
            classes=classes,
            model=first.name if first else "",
            model_version=first.version if first else "",
        )
        return JSONResponse(Document(service).build(self._routes))
