"""The routes below `/v1`, with the endpoints for the status and the metadata of models."""

from typing import Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from ingest.classification import Classifier
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import StreamUnavailable, UnknownModel
from ingest.openapi.operation import DocumentedResponse, DocumentedRoute, Operation
from ingest.openapi.problems import MODEL_PROBLEMS
from ingest.request_body import Limits
from ingest.responses import JSONResponse
from ingest.tfserving.metadata import Metadata, ModelNames, ModelStatus, model_metadata, model_status
from ingest.tfserving.prediction import CLASSIFY, PREDICT, PredictionEndpoints

NAMES: Final = Operation(
    "List the models (KServe v1)", {200: DocumentedResponse("Their names.", ModelNames)}, (StreamUnavailable,)
)
STATUS: Final = Operation(
    "Get a model's status (TensorFlow Serving)",
    {200: DocumentedResponse("Its versions.", ModelStatus)},
    MODEL_PROBLEMS,
)
METADATA: Final = Operation(
    "Get a model's signature (TensorFlow Serving)",
    {200: DocumentedResponse("The signature.", Metadata)},
    MODEL_PROBLEMS,
)
LABEL: Final = Operation("Versions have no labels here (TensorFlow Serving): always 404", {}, MODEL_PROBLEMS)


class _NameConvertor(Convertor[str]):
    """A part of a path without a verb: `tiny:regress` is no model, but something that there is not."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("name", _NameConvertor())


def tfserving_routes(
    registry: ModelRegistry, classifier: Classifier, limits: Limits, *, timeout_s: float
) -> list[DocumentedRoute]:
    """All routes below /v1."""
    endpoints = StatusEndpoints(registry)
    predictions = PredictionEndpoints(registry, classifier, limits, timeout_s=timeout_s)
    routes = [DocumentedRoute("/v1/models", endpoints.names, NAMES)]
    model = "/v1/models/{model:name}"
    by_label = f"{model}/labels/{{label:name}}"
    for verb in ("predict", "classify"):
        routes += [DocumentedRoute(f"{by_label}:{verb}", endpoints.label, {"POST": LABEL})]
    routes += [DocumentedRoute(path, endpoints.label, LABEL) for path in (f"{by_label}/metadata", by_label)]
    for path in (f"{model}/versions/{{version:name}}", model):
        routes += [
            DocumentedRoute(f"{path}:predict", predictions.predict, {"POST": PREDICT}),
            DocumentedRoute(f"{path}:classify", predictions.classify, {"POST": CLASSIFY}),
            DocumentedRoute(f"{path}/metadata", endpoints.metadata, METADATA),
            DocumentedRoute(path, endpoints.status, STATUS),
        ]
    return routes


class StatusEndpoints:
    """The endpoints that need the registry alone."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def names(self, _request: Request) -> Response:
        self._registry.refuse_in_outage()
        return JSONResponse(ModelNames(models=self._registry.served))

    async def status(self, request: Request) -> Response:
        self._registry.refuse_in_outage()
        version = request.path_params.get("version")
        client = self._registry.find_served(request.path_params["model"], version)
        return JSONResponse(model_status(client, version))

    async def metadata(self, request: Request) -> Response:
        version = request.path_params.get("version")
        client = self._registry.find_served(request.path_params["model"], version)
        return JSONResponse(await model_metadata(client, version))

    async def label(self, request: Request) -> Response:
        """Versions have no labels here, as in TensorFlow Serving without a configuration of them."""
        client = self._registry.find_served(request.path_params["model"], None)
        label = request.path_params["label"]
        raise UnknownModel(
            f"No version of {client.name} has the label {label[:40]!r}. "
            f"Name a version: {', '.join(f'/versions/{one}' for one in client.versions.served)}."
        )
