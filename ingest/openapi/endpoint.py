"""`GET /openapi.json`: the document, of the service as it is at this moment."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from ingest.dispatch.registry import Catalog
from ingest.openapi.document import Document, Service
from ingest.openapi.operation import Answer, Operation
from ingest.version import own_version

OPENAPI: Final = Operation("This document", {200: Answer("OpenAPI 3.1.", dict[str, Any])})


class OpenApi:
    """The endpoint. What the routes of the application are, it sees when it is asked."""

    def __init__(self, routes: Sequence[BaseRoute], catalog: Catalog, *, keys: bool, limited: bool) -> None:
        self._routes = routes
        self._catalog = catalog
        self._keys = keys
        self._limited = limited

    async def __call__(self, _request: Request) -> Response:
        served = [self._catalog.find(name).model for name in self._catalog.served]
        classes = max((len(model.labels) for model in served), default=None)
        service = Service(own_version(), keys=self._keys, limited=self._limited, classes=classes)
        return JSONResponse(Document(service).of(self._routes))
