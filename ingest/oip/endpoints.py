"""The protocol's routes. Knows which endpoint answers which path, and the small ones themselves."""

from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.api.health import accepting
from ingest.dispatch.registry import Catalog
from ingest.errors import BadParameter
from ingest.images.decoder import Decoder
from ingest.oip import metadata, operations
from ingest.oip.body import read_body
from ingest.oip.errors import Nowhere, in_protocol
from ingest.oip.inference import Inference
from ingest.oip.schemas import Entry, IndexRequest, ModelReady, ServerLive, ServerReady
from ingest.oip.selection import select, versions
from ingest.openapi.operation import Described
from ingest.uploads import Limits

#: The request for the index says one thing at most.
_MOST_INDEX_BYTES: Final = 4096

_INDEX_REQUEST: Final = TypeAdapter(IndexRequest)


def routes(catalog: Catalog, decoder: Decoder, limits: Limits, *, longest_s: float) -> list[Route]:
    """All routes below /v2, the one that answers whatever is no route last."""
    endpoints = Endpoints(catalog, limits)
    inference = Inference(catalog, decoder, limits, longest_s=longest_s)
    model = "/v2/models/{model}"
    version = model + "/versions/{version}"
    known = [
        Described("/v2", in_protocol(endpoints.server), operations.SERVER),
        Described("/v2/health/live", in_protocol(endpoints.live), operations.LIVE),
        Described("/v2/health/ready", in_protocol(endpoints.ready), operations.READY),
        Described("/v2/repository/index", in_protocol(endpoints.index), {"POST": operations.INDEX}),
    ]
    for path in (model, version):
        known += [
            Described(path, in_protocol(endpoints.model), operations.MODEL),
            Described(f"{path}/ready", in_protocol(endpoints.model_ready), operations.MODEL_READY),
            Described(f"{path}/config", in_protocol(endpoints.configuration), operations.CONFIGURATION),
            Described(f"{path}/infer", in_protocol(inference.__call__), {"POST": operations.infer(limits)}),
        ]
    return [*known, Route("/v2/{path:path}", Nowhere(known), include_in_schema=False)]


class Endpoints:
    """All that is answered from the catalog alone."""

    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self._catalog = catalog
        self._limits = replace(limits, max_bytes=min(limits.max_bytes, _MOST_INDEX_BYTES))

    async def server(self, _request: Request) -> Response:
        return JSONResponse(metadata.of_server())

    async def live(self, _request: Request) -> Response:
        return JSONResponse(ServerLive(live=True))

    async def ready(self, _request: Request) -> Response:
        accepting(self._catalog)
        return JSONResponse(ServerReady(ready=True))

    async def model(self, request: Request) -> Response:
        return JSONResponse(metadata.of_model(**await self._described(request)))

    async def configuration(self, request: Request) -> Response:
        return JSONResponse(metadata.configuration(**await self._described(request)))

    async def model_ready(self, request: Request) -> Response:
        self._catalog.refuse_in_outage()
        dispatch, _ = select(self._catalog, request.path_params)
        return JSONResponse(ModelReady(name=dispatch.name, ready=True))

    async def index(self, request: Request) -> Response:
        """The models that are served: what no consumer serves is not known here, so `ready` changes nothing."""
        body = await read_body(request, self._limits)
        try:
            _INDEX_REQUEST.validate_json(body or b"{}", strict=True)
        except ValidationError as error:
            raise BadParameter("The request is no JSON object whose ready, if any, is true or false.") from error
        dispatches = [self._catalog.find(name) for name in self._catalog.served]
        return JSONResponse(
            [
                Entry(name=dispatch.name, version=version, state="READY", reason="")
                for dispatch in dispatches
                for version in versions(dispatch)
            ]
        )

    async def _described(self, request: Request) -> dict[str, Any]:
        dispatch, version = select(self._catalog, request.path_params)
        model = dispatch.model
        return {
            "name": dispatch.name,
            "versions": versions(dispatch),
            "height": model.height,
            "width": model.width,
            "classes": len(await dispatch.labels(version or model.version)),
        }
