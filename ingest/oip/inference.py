"""`POST /v2/models/{model}/infer`: a tensor of images in, a tensor of probabilities out."""

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ingest.classification import MAX_IMAGES, BulkClassifier, Classifier, Target
from ingest.concurrency import cancel_on_disconnect
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import (
    BadParameter,
    Cancelled,
    DamagedImage,
    DeadlinePassed,
    InferenceFailed,
    MixedVersions,
    NoConsumer,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    StreamUnavailable,
    TooManyPixels,
    UnknownModel,
    UnsupportedMediaType,
)
from ingest.oip.infer_request import REQUEST_SCHEMA, InferRequest, parse_request
from ingest.oip.infer_response import InferResponse, encode_response
from ingest.oip.tensors import INPUT
from ingest.oip.wire import HEADER_LENGTH, parse
from ingest.openapi.operation import JSON, Body, DocumentedResponse, Header, Operation, Parameter
from ingest.request_body import CONTENT_CODINGS, Limits, read_body
from ingest.responses import cache_status
from ingest.uploads import is_form
from stream.model import ModelDescription

#: A body of more bytes is parsed in a thread.
_MAX_INLINE: Final = 2**16

_OCTETS: Final = "application/octet-stream"


class InferEndpoint:
    """The endpoint."""

    def __init__(self, registry: ModelRegistry, classifier: Classifier, limits: Limits, *, timeout_s: float) -> None:
        self._registry = registry
        self._classifier = classifier
        self._limits = limits
        self._timeout_s = timeout_s
        # To parse takes a core and several times the tensor's size in memory: one request at a time.
        self._parsing = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        version = request.path_params.get("version")
        client = self._registry.find_served(request.path_params["model"], version)
        target = Target(client, client.model, version=version)
        refuse_form(request)
        client.refuse_mixed_versions(version)
        client.refuse_if_full()
        asked = await self._read(request, target.model)
        bulk = BulkClassifier(self._classifier, target, timeout_s=self._timeout_s)
        predictions = await cancel_on_disconnect(request, bulk.classify(asked.images))
        labels = {version: await client.labels(version) for version in {done.version for done in predictions}}
        response = await encode_response(
            asked, client.name, predictions, [labels[done.version] for done in predictions]
        )
        response.headers.update(cache_status(predictions, enabled=client.caches))
        return response

    async def _read(self, request: Request, model: ModelDescription) -> InferRequest:
        body = await read_body(request, self._limits)
        arguments = (body, request.headers.get(HEADER_LENGTH), model)
        if len(body) <= _MAX_INLINE:
            return _parse(*arguments)
        async with self._parsing:
            return await asyncio.to_thread(_parse, *arguments)


def _parse(body: bytes, header_length: str | None, model: ModelDescription) -> InferRequest:
    return parse_request(parse(body, header_length), model)


def refuse_form(request: Request) -> None:
    """Raise UnsupportedMediaType if the body is a form."""
    if is_form(request):
        raise UnsupportedMediaType("The protocol has no forms. Send the request as JSON, followed by binary data.")


_LENGTH: Final = {"type": "integer", "minimum": 0}
BODY_PROBLEMS: Final = (BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType)
MODEL_PROBLEMS: Final = (UnknownModel, NoConsumer, MixedVersions, StreamUnavailable)
_IMAGE_PROBLEMS: Final = (TooManyPixels, DamagedImage, Cancelled, InferenceFailed, Overloaded, DeadlinePassed)


def infer_operation(limits: Limits) -> Operation:
    """The declaration, with these limits."""
    content: dict[str, dict[str, Any]] = {
        JSON: {"schema": REQUEST_SCHEMA},
        _OCTETS: {"schema": {"maxLength": limits.max_bytes}},
    }
    return Operation(
        f"Classify 1 to {MAX_IMAGES} images",
        {
            200: DocumentedResponse(
                "The probabilities, or the labels, of all images.",
                InferResponse,
                headers=(
                    Header("X-Sluice-Provider", "ONNX Runtime's execution provider that ran them", always=True),
                    Header(HEADER_LENGTH, "If binary data follows: how many bytes of the response are JSON"),
                    Header("Cache-Status", "If the cache is on: whether all of these came from it"),
                ),
                others={_OCTETS: {}},
            )
        },
        (*BODY_PROBLEMS, *MODEL_PROBLEMS, *_IMAGE_PROBLEMS),
        (
            Parameter(HEADER_LENGTH, "header", "How many bytes of the body are JSON; all, if left out", _LENGTH),
            Parameter("Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CONTENT_CODINGS)}),
        ),
        Body(f"One tensor {INPUT}: UINT8 [N, height, width, channels] or BYTES [N].", content),
    )
