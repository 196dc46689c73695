"""`POST /v1/models/{model}:predict` and `:classify`: images in, the numbers of the model out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.classification import (
    MAX_IMAGES,
    BulkClassifier,
    Classifier,
    Image,
    Target,
    cancel_on_disconnect,
)
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import (
    BadParameter,
    UnsupportedMediaType,
)
from ingest.openapi.operation import EXAMPLE_BASE64, JSON, Body, DocumentedResponse, Header, Operation, Parameter
from ingest.openapi.problems import INFERENCE_PROBLEMS
from ingest.priority import PRIORITY, PRIORITY_HEADER, PRIORITY_PARAMETER, priority_of
from ingest.request_body import CONTENT_CODINGS, Limits, in_thread_if_large, is_form, read_body
from ingest.request_json import parse_json_object, refuse_unknown
from ingest.responses import JSONResponse, cache_status
from ingest.tfserving.predict_request import PredictRequest, parse_classify, parse_predict
from results.outcome import Done
from stream.model import ModelDescription

T = TypeVar("T")


class Predictions(TypedDict):
    """The outputs of each image, for a request in row format."""

    predictions: Annotated[list[list[float]], Field(examples=[[[0.62, 0.38]]])]


class Outputs(TypedDict):
    """The outputs of each image, for a request in column format."""

    outputs: Annotated[list[list[float]], Field(examples=[[[0.62, 0.38]]])]


# Not prefixItems, which many readers of OpenAPI do not know.
_PAIR: Final = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": ["string", "number"]}}
_LabelAndScore = Annotated[tuple[str, float], WithJsonSchema(_PAIR)]


class Classifications(TypedDict):
    """All labels of each image with their scores, in the order of the model's classes."""

    results: Annotated[list[list[_LabelAndScore]], Field(examples=[[[["tabby", 0.62], ["tiger_cat", 0.38]]]])]


class PredictionEndpoints:
    """The endpoints for `:predict` and `:classify`."""

    def __init__(self, registry: ModelRegistry, classifier: Classifier, limits: Limits, *, timeout_s: float) -> None:
        self._registry = registry
        self._classifier = classifier
        self._limits = limits
        self._timeout_s = timeout_s
        # To parse takes a core and several times the numbers' size in memory: one request at a time.
        self._parsing = asyncio.Lock()

    async def predict(self, request: Request) -> Response:
        target = self._target(request)
        parsed: PredictRequest = await self._read(request, target.model, parse_predict)
        done = await self._classify(request, parsed.images, target)
        rows = [_row(one) for one in done]
        return _response(Outputs(outputs=rows) if parsed.columns else Predictions(predictions=rows), done, target)

    async def classify(self, request: Request) -> Response:
        target = self._target(request)
        if target.model.output_kind == "values":
            raise BadParameter(f"{target.client.name} gives values, not classes. Use :predict.")
        images: list[Image] = await self._read(request, target.model, parse_classify)
        done = await self._classify(request, images, target)
        labels = {one.version: await target.client.versions.labels_of(one) for one in done}
        found = [list(zip(labels[one.version], _numbers(one), strict=True)) for one in done]
        return _response(Classifications(results=found), done, target)

    def _target(self, request: Request) -> Target:
        refuse_unknown(request.query_params, (PRIORITY,))
        version = request.path_params.get("version")
        client = self._registry.find_served(request.path_params["model"], version)
        model, wanted = client.route(request.headers, version)
        priority = priority_of(request.headers, request.query_params)
        client.refuse_if_full(priority)
        return Target(client, model, version=version, priority=priority, wanted=wanted)

    async def _read(
        self, request: Request, model: ModelDescription, parse: Callable[[dict[str, Any], ModelDescription], T]
    ) -> T:
        # Clients declare any content type: `curl -d` calls JSON a urlencoded form.
        if is_form(request):
            raise UnsupportedMediaType("This API has no multipart forms. Send JSON, with images as base64.")
        body = await read_body(request, self._limits)
        return await in_thread_if_large(lambda: parse(_document(body), model), size=len(body), lock=self._parsing)

    async def _classify(self, request: Request, images: Sequence[Image], target: Target) -> list[Done]:
        bulk = BulkClassifier(self._classifier, target, timeout_s=self._timeout_s)
        return await cancel_on_disconnect(request, bulk.classify(images))


def _document(body: bytes) -> dict[str, Any]:
    return parse_json_object(body, smaller='encoded images as {"b64": "..."}')


def _row(done: Done) -> list[float]:
    """The model's own output: a binary model has one number, the probability of its second label."""
    numbers = _numbers(done)
    return numbers[1:] if done.output_kind == "binary" else numbers


def _numbers(done: Done) -> list[float]:
    """Nine digits tell any two float32 apart."""
    return [float(f"{value:.9g}") for value in done.probabilities]


def _response(body: Predictions | Outputs | Classifications, done: Sequence[Done], target: Target) -> Response:
    headers = {"X-Sluice-Provider": ", ".join(sorted({one.provider for one in done}))}
    return JSONResponse(body, headers=headers | cache_status(done, enabled=target.client.caches))


_HEADERS: Final = (
    Header("X-Sluice-Provider", "ONNX Runtime's execution provider that ran them", always=True),
    Header("Cache-Status", "If the cache is on: whether all of these came from it"),
)
_CODING: Final = Parameter(
    "Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CONTENT_CODINGS)}
)
_EXAMPLE: Final = {"b64": EXAMPLE_BASE64}
_SIGNATURE_NAME: Final = {"type": ["string", "null"]}


def _list_of(name: str) -> dict[str, Any]:
    # Generators of clients need `items`. An image may be an object, or numbers of any depth.
    images = {"type": "array", "minItems": 1, "maxItems": MAX_IMAGES, "items": {}}
    properties = {name: images, "signature_name": _SIGNATURE_NAME}
    return {"type": "object", "required": [name], "properties": properties}


PREDICT: Final = Operation(
    "Predict (TensorFlow Serving)",
    {200: DocumentedResponse("The outputs of each image.", Predictions | Outputs, headers=_HEADERS)},
    INFERENCE_PROBLEMS,
    (_CODING, PRIORITY_PARAMETER, PRIORITY_HEADER),
    Body(
        'Images as arrays of pixels or as {"b64": "..."}, in row format (instances) or in column format (inputs).',
        {
            JSON: {
                "schema": {"oneOf": [_list_of("instances"), _list_of("inputs")]},
                "example": {"instances": [_EXAMPLE]},
            }
        },
    ),
)
CLASSIFY: Final = Operation(
    "Classify (TensorFlow Serving)",
    {200: DocumentedResponse("All labels of each image.", Classifications, headers=_HEADERS)},
    INFERENCE_PROBLEMS,
    (_CODING, PRIORITY_PARAMETER, PRIORITY_HEADER),
    Body(
        "Examples with one feature each, the image.",
        {JSON: {"schema": _list_of("examples"), "example": {"examples": [{"image": _EXAMPLE}]}}},
    ),
)
