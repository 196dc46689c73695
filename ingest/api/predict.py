"""`POST /predict`: images in, labels out."""

import time
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingest.api.async_requests import (
    ACCEPTED_PROBLEMS,
    IDEMPOTENCY_KEY,
    POLL_HEADER,
    PREFER,
    PREFERENCE_APPLIED,
    AsyncRequest,
)
from ingest.classification import Classified, Classifier, Target
from ingest.concurrency import cancel_on_disconnect, gather_or_problem
from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.registry import ModelRegistry
from ingest.errors import (
    BadParameter,
    DamagedImage,
    IdempotencyKeyReused,
    MalformedUpload,
    NoConsumer,
    NoImage,
    PayloadTooLarge,
    Problem,
    RequestTimeout,
    TooManyPixels,
    UnknownModel,
    UnsupportedMediaType,
)
from ingest.images.formats import MEDIA_TYPES
from ingest.metrics import BATCH_SIZE
from ingest.multipart import IMAGE
from ingest.openapi.operation import Body, DocumentedResponse, Header, Operation, Parameter
from ingest.request_body import Limits
from ingest.responses import (
    Failure,
    Prediction,
    Queued,
    Results,
    cache_status,
    failure,
    named,
    prediction,
    timing_headers,
)
from ingest.uploads import Upload, read_uploads

#: The query parameter for the number of labels, and its default.
_TOP: Final = "top"
_DEFAULT_TOP: Final = 5


class PredictEndpoint:
    """The endpoint. The response to one image is its prediction, to several a list in the order sent."""

    def __init__(self, registry: ModelRegistry, classifier: Classifier, limits: Limits, *, timeout_s: float) -> None:
        self._registry = registry
        self._classifier = classifier
        self._limits = limits
        self._timeout_s = timeout_s

    async def __call__(self, request: Request) -> Response:
        started = time.perf_counter()
        client = self._registry.find(request.path_params.get("model"))
        model = client.model
        target = Target(client, model, parse_top(request, classes=len(model.labels)))
        client.refuse_if_full()
        async_request = AsyncRequest.parse(request, timeout_s=self._timeout_s)
        uploads = await read_uploads(request, self._limits)
        if async_request:
            return await async_request.respond(uploads, target, self._classifier)
        work = [self._classifier.classify(upload, target) for upload in uploads]
        if len(work) == 1:
            only = await cancel_on_disconnect(request, work[0])
            request.scope[BATCH_SIZE] = only.done.batch
            return await _one(client, only, started)
        return await _several(client, uploads, await cancel_on_disconnect(request, gather_or_problem(work)))


async def _one(client: ModelClient, classified: Classified, started: float) -> Response:
    done = classified.done
    body = prediction(done, model=client.name, labels=await client.labels(done.version))
    total_ms = (time.perf_counter() - started) * 1000
    headers = timing_headers(done, decode_ms=classified.decode_ms, total_ms=total_ms)
    return JSONResponse(body, headers=headers | cache_status([done], enabled=client.caches))


async def _several(
    client: ModelClient, uploads: Sequence[Upload], outcomes: Sequence[Classified | Problem]
) -> Response:
    """A list of predictions and failures. If the service failed for every image, the request fails."""
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if len(problems) == len(outcomes) and all(problem.status >= 500 for problem in problems):
        raise problems[0]
    results = [
        named(upload.filename, await _result(client, one)) for upload, one in zip(uploads, outcomes, strict=True)
    ]
    done = [outcome.done for outcome in outcomes if not isinstance(outcome, Problem)]
    return JSONResponse(Results(success=True, results=results), headers=cache_status(done, enabled=client.caches))


async def _result(client: ModelClient, outcome: Classified | Problem) -> Prediction | Failure:
    if isinstance(outcome, Problem):
        return failure(outcome)
    done = outcome.done
    return prediction(done, model=client.name, labels=await client.labels(done.version))


def parse_top(request: Request, *, classes: int) -> int:
    """How many labels the request asks for; raises BadParameter."""
    given = request.query_params.getlist(_TOP)
    if not given:
        return min(_DEFAULT_TOP, classes)
    first = given[0]
    if not (len(given) == 1 and first.isascii() and first.isdecimal() and 1 <= int(first[:9]) <= classes):
        shown = ", ".join(given)[:40]
        raise BadParameter(f"top is {shown!r}; it must be one whole number from 1 to {classes}.")
    return int(first)


def _top_schema(classes: int | None) -> dict[str, Any]:
    """The schema of `top`; without a maximum if the number of classes is unknown."""
    bounds = {"minimum": 1} if classes is None else {"minimum": 1, "maximum": classes}
    return {"type": "integer", "default": min(_DEFAULT_TOP, classes or _DEFAULT_TOP), **bounds}


def predict_operation(limits: Limits) -> Operation:
    """The declaration, with these limits."""
    image = {"type": "string", "contentMediaType": "image/*"}
    form = {
        "schema": {
            "type": "object",
            "required": [IMAGE],
            "properties": {IMAGE: {"type": "array", "minItems": 1, "maxItems": limits.max_images, "items": image}},
        },
        "encoding": {IMAGE: {"contentType": ", ".join(MEDIA_TYPES.values())}},
    }
    raw = {kind: {"schema": {"maxLength": limits.max_bytes}} for kind in MEDIA_TYPES.values()}
    return Operation(
        "Classify images",
        {
            200: DocumentedResponse(
                "The labels of one image, or the results of several in the order sent.",
                Prediction | Results,
                headers=(
                    Header("X-Sluice-Provider", "ONNX Runtime's execution provider that ran it; for one image"),
                    Header("X-Sluice-Batch", "How many images ran together; for one image"),
                    Header("Cache-Status", "If the cache is on: whether this came from it (RFC 9211)"),
                    PREFERENCE_APPLIED,
                ),
            ),
            202: DocumentedResponse(
                "Accepted, with the URLs where the results will be.",
                Queued | Results,
                headers=(
                    POLL_HEADER,
                    Header("Location", "Where the result will be; for one image"),
                    PREFERENCE_APPLIED,
                ),
            ),
        },
        (NoImage, MalformedUpload, BadParameter, UnknownModel, RequestTimeout, PayloadTooLarge, TooManyPixels,
         UnsupportedMediaType, DamagedImage, IdempotencyKeyReused, NoConsumer, *ACCEPTED_PROBLEMS),
        (Parameter(_TOP, "query", "How many labels, most probable first", _top_schema), PREFER, IDEMPOTENCY_KEY),
        Body(
            f"A form with one or more parts named {IMAGE}, or the image itself. Its first bytes decide its format.",
            {"multipart/form-data": form, **raw},
        ),
    )  # fmt: skip
