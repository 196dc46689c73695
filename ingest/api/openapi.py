"""`GET /openapi.json`: the OpenAPI document of the service in its present state."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ingest.dispatch.registry import ModelRegistry
from ingest.openapi.document import Document, Service
from ingest.openapi.operation import DocumentedResponse, Operation
from ingest.responses import JSONResponse
from stream.host.packages import own_version

OPENAPI: Final = Operation("Get this document", {200: DocumentedResponse("OpenAPI 3.1.", dict[str, Any])})


class OpenApiEndpoint:
    """The endpoint. It reads the application's routes at each request."""

    def __init__(self, routes: Sequence[BaseRoute], registry: ModelRegistry, *, keys: bool, limited: bool) -> None:
        self._routes = routes
        self._registry = registry
        self._keys = keys
        self._limited = limited

    async def __call__(self, _request: Request) -> Response:
        served = [self._registry.find(name).model for name in self._registry.served]
        classes = max((len(model.labels) for model in served), default=None)
        service = Service(own_version(), keys=self._keys, limited=self._limited, classes=classes)
        return JSONResponse(Document(service).build(self._routes))
