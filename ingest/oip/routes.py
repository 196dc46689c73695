"""The protocol's routes. Knows which endpoint answers which path, and the small ones themselves."""

import json
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.catalog import Catalog
from ingest.decoding import Decoder
from ingest.oip import metadata
from ingest.oip.body import read_body
from ingest.oip.errors import Nowhere, in_protocol
from ingest.oip.inference import Inference
from ingest.oip.selection import select, versions
from ingest.problems import BadParameter, NoConsumer, StreamUnavailable
from ingest.uploads import Limits

#: The request for the index says one thing at most.
_MOST_INDEX_BYTES: Final = 4096


def routes(catalog: Catalog, decoder: Decoder, limits: Limits, *, longest_s: float) -> list[Route]:
    """All routes below /v2, the one that answers whatever is no route last."""
    endpoints = Endpoints(catalog, limits)
    inference = Inference(catalog, decoder, limits, longest_s=longest_s)
    model = "/v2/models/{model}"
    version = model + "/versions/{version}"
    known = [
        Route("/v2", in_protocol(endpoints.server)),
        Route("/v2/health/live", in_protocol(endpoints.live)),
        Route("/v2/health/ready", in_protocol(endpoints.ready)),
        Route("/v2/repository/index", in_protocol(endpoints.index), methods=["POST"]),
    ]
    for path in (model, version):
        known += [
            Route(path, in_protocol(endpoints.model)),
            Route(f"{path}/ready", in_protocol(endpoints.model_ready)),
            Route(f"{path}/config", in_protocol(endpoints.configuration)),
            Route(f"{path}/infer", in_protocol(inference.__call__), methods=["POST"]),
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
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        if self._catalog.outage:
            raise StreamUnavailable(f"{self._catalog.outage}.", retry_after_s=2)
        if not self._catalog.accepting:
            raise NoConsumer("No consumer with a warm model is alive.", retry_after_s=2)
        return JSONResponse({"ready": True})

    async def model(self, request: Request) -> Response:
        return JSONResponse(metadata.of_model(**await self._described(request)))

    async def configuration(self, request: Request) -> Response:
        return JSONResponse(metadata.configuration(**await self._described(request)))

    async def model_ready(self, request: Request) -> Response:
        if self._catalog.outage:
            raise StreamUnavailable(f"{self._catalog.outage}.", retry_after_s=2)
        dispatch, _ = select(self._catalog, request.path_params)
        return JSONResponse({"name": dispatch.name, "ready": True})

    async def index(self, request: Request) -> Response:
        """The models that are served: what no consumer serves is not known here, so `ready` changes nothing."""
        body = await read_body(request, self._limits)
        try:
            asked = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise BadParameter("The request is no JSON. Send {} or nothing.") from error
        if not (isinstance(asked, dict) and isinstance(asked.get("ready", False), bool)):
            raise BadParameter("The request must be an object; its ready, where it has one, is true or false.")
        dispatches = [self._catalog.find(name) for name in self._catalog.served]
        return JSONResponse(
            [
                {"name": dispatch.name, "version": version, "state": "READY", "reason": ""}
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
