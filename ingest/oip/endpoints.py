"""The routes below `/v2`: inference, and the endpoints for health, metadata and the index."""

from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import BadParameter, NoConsumer, StreamUnavailable
from ingest.oip.infer_runner import InferRunner
from ingest.oip.inference import InferEndpoint, infer_operation, refuse_form
from ingest.oip.metadata import (
    Configuration,
    IndexEntry,
    IndexRequest,
    Model,
    ModelReady,
    Server,
    ServerLive,
    ServerReady,
    model_configuration,
    model_metadata,
    repository_index,
    server_metadata,
)
from ingest.openapi.operation import JSON, Body, DocumentedResponse, DocumentedRoute, Operation
from ingest.openapi.problems import BODY_PROBLEMS, MODEL_PROBLEMS
from ingest.openapi.schemas import inline
from ingest.request_body import Limits, read_body
from ingest.responses import JSONResponse

#: A request for the index holds one flag at most.
_MAX_INDEX_BYTES: Final = 4096

_INDEX_REQUEST: Final = TypeAdapter(IndexRequest)

SERVER: Final = Operation("Describe the server", {200: DocumentedResponse("The server and its extensions.", Server)})
LIVE: Final = Operation("Is the process alive?", {200: DocumentedResponse("It answers.", ServerLive)})
READY: Final = Operation(
    "Is the service ready?",
    {200: DocumentedResponse("It accepts images.", ServerReady)},
    (NoConsumer, StreamUnavailable),
)
MODEL: Final = Operation(
    "Describe a model's tensors", {200: DocumentedResponse("The metadata.", Model)}, MODEL_PROBLEMS
)
MODEL_READY: Final = Operation("Is this model served?", {200: DocumentedResponse("It is.", ModelReady)}, MODEL_PROBLEMS)
CONFIGURATION: Final = Operation(
    "Get a model's configuration in Triton's form",
    {200: DocumentedResponse("The configuration.", Configuration)},
    MODEL_PROBLEMS,
)
INDEX: Final = Operation(
    "List the versions that are served",
    {200: DocumentedResponse("Each of them.", list[IndexEntry])},
    BODY_PROBLEMS,
    body=Body("A filter; no body is the same as {}.", {JSON: {"schema": inline(IndexRequest)}}, required=False),
)


def oip_routes(registry: ModelRegistry, runner: InferRunner, limits: Limits) -> list[DocumentedRoute]:
    """All routes below /v2."""
    endpoints = MetadataEndpoints(registry, limits)
    infer = InferEndpoint(runner, limits)
    routes = [
        DocumentedRoute("/v2", endpoints.server, SERVER),
        DocumentedRoute("/v2/health/live", endpoints.live, LIVE),
        DocumentedRoute("/v2/health/ready", endpoints.ready, READY),
        DocumentedRoute("/v2/repository/index", endpoints.index, {"POST": INDEX}),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            DocumentedRoute(path, endpoints.model, MODEL),
            DocumentedRoute(f"{path}/ready", endpoints.model_ready, MODEL_READY),
            DocumentedRoute(f"{path}/config", endpoints.configuration, CONFIGURATION),
            DocumentedRoute(f"{path}/infer", infer.__call__, {"POST": infer_operation(limits)}),
        ]
    return routes


class MetadataEndpoints:
    """The endpoints that need the registry alone."""

    def __init__(self, registry: ModelRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = replace(limits, max_bytes=min(limits.max_bytes, _MAX_INDEX_BYTES))

    async def server(self, _request: Request) -> Response:
        return JSONResponse(server_metadata())

    async def live(self, _request: Request) -> Response:
        return JSONResponse(ServerLive(live=True))

    async def ready(self, _request: Request) -> Response:
        self._registry.require_ready()
        return JSONResponse(ServerReady(ready=True))

    async def model(self, request: Request) -> Response:
        client, version = self._served(request)
        return JSONResponse(await model_metadata(client, version))

    async def configuration(self, request: Request) -> Response:
        client, version = self._served(request)
        return JSONResponse(await model_configuration(client, version))

    async def model_ready(self, request: Request) -> Response:
        self._registry.refuse_in_outage()
        client, _ = self._served(request)
        return JSONResponse(ModelReady(name=client.name, ready=True))

    async def index(self, request: Request) -> Response:
        """The versions that live consumers serve; others are unknown here."""
        refuse_form(request)
        body = await read_body(request, self._limits)
        try:
            asked = _INDEX_REQUEST.validate_json(body or b"{}", strict=True)
        except ValidationError as error:
            raise BadParameter("The request must be a JSON object; its ready, if any, is true or false.") from error
        return JSONResponse(repository_index(self._registry, ready=asked.get("ready", False)))

    def _served(self, request: Request) -> tuple[ModelClient, str | None]:
        version = request.path_params.get("version")
        return self._registry.find_served(request.path_params["model"], version), version
