"""`POST /predict`: images in, labels out.

In this order: find the model and its version, read the options, refuse if the queue is full, read the body. Each image
is then decoded and sent to the stream, and its outcome awaited (`Classifier` in ingest/classification.py).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.api.async_requests import POLL_HEADER, PREFER, PREFERENCE_APPLIED, AsyncRequest
from ingest.api.idempotency import IDEMPOTENCY_KEY, IdempotencyKeys
from ingest.api.option_names import TOP
from ingest.api.predict_request import (
    CONTENT_ENCODING,
    DEFAULT_TOP,
    THRESHOLD_PARAMETER,
    Options,
    PredictBody,
)
from ingest.api.webhook_requests import WEBHOOK_URL, WebhookRequests
from ingest.auth.owner import marks
from ingest.classification import Classified, Classifier, Target, cancel_on_disconnect, gather_or_problem
from ingest.dispatch.registry import ModelRegistry
from ingest.dispatch.release import CLIENT_HEADER
from ingest.errors import (
    BadParameter,
    BulkKey,
    DamagedImage,
    IdempotencyKeyReused,
    MalformedUpload,
    ModelUnloaded,
    NoConsumer,
    NoImage,
    PayloadTooLarge,
    Problem,
    RequestTimeout,
    TooManyPixels,
    UnknownModel,
    UnsupportedMediaType,
)
from ingest.metrics import BATCH_SIZE
from ingest.openapi.operation import DocumentedResponse, Header, Operation, Parameter
from ingest.openapi.problems import ACCEPTED_PROBLEMS
from ingest.priority import PRIORITY_HEADER, PRIORITY_PARAMETER, priority_of
from ingest.request_body import Upload
from ingest.responses import (
    Failure,
    JSONResponse,
    Prediction,
    Queued,
    Results,
    Values,
    cache_status,
    failure,
    named,
    problem_response,
    timing_headers,
)
from stream.keys import Priority


class PredictEndpoint:
    """The endpoint. The response to one image is its prediction, to several a list in the order sent."""

    def __init__(
        self,
        registry: ModelRegistry,
        classifier: Classifier,
        body: PredictBody,
        webhooks: WebhookRequests,
        idempotency: IdempotencyKeys,
        *,
        timeout_s: float,
    ) -> None:
        self._registry = registry
        self._classifier = classifier
        self._body = body
        self._webhooks = webhooks
        self._idempotency = idempotency
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An ASGI application: for a function, Starlette would handle exceptions here and in its middleware.
        response = await self.respond(Request(scope, receive, send))
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """The response. Raises a Problem."""
        started = time.perf_counter()
        client = self._registry.find(request.path_params.get("model"))
        model, wanted = client.route(request.headers)
        wishes = self._wishes(request)
        top = wishes.options.top_for(model)  # refuses a wrong option before the body is read
        client.refuse_if_full(wishes.priority)
        uploads, options, webhook = await self._body.read(request, wishes.options)
        target = Target(
            client,
            model,
            top if options is wishes.options else options.top_for(model),
            threshold=options.threshold,
            priority=wishes.priority,
            wanted=wanted,
            webhook_url="" if wishes is _NO_WISHES and webhook is None else self._webhooks.url(request, webhook),
        )
        try:
            if wishes.async_request:
                return await wishes.async_request.respond(uploads, target, self._classifier)
            return await self._wait(request, uploads, target, started)
        except Problem as problem:
            return problem_response(problem, request.url.path, threshold=target.threshold)

    async def _wait(self, request: Request, uploads: Sequence[Upload], target: Target, started: float) -> Response:
        work = [self._classifier.classify(upload, target) for upload in uploads]
        if len(work) == 1:
            only = await cancel_on_disconnect(request, work[0])
            request.scope[BATCH_SIZE] = only.done.batch
            return await _one(target, only, started)
        return await _several(target, uploads, await cancel_on_disconnect(request, gather_or_problem(work)))

    def _wishes(self, request: Request) -> "_Wishes":
        """Raises BadParameter and BulkKey."""
        if (
            not request.scope["query_string"]
            and _WISHING.isdisjoint(dict(request.scope["headers"]))
            and not marks.get()
        ):
            return _NO_WISHES
        options = Options.parse_query(request.query_params)
        async_request = AsyncRequest.parse(request, self._idempotency, timeout_s=self._timeout_s)
        default = async_request.default_priority if async_request else "interactive"
        priority = priority_of(request.headers, request.query_params, default=default)
        return _Wishes(options, async_request, priority)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What a client asks for in the query and in headers."""

    options: Options = field(default_factory=Options)
    async_request: AsyncRequest | None = None
    priority: Priority = "interactive"


#: Most requests have no wishes.
_NO_WISHES: Final = _Wishes()
_WISHING: Final = frozenset(
    parameter.name.lower().encode() for parameter in (PREFER, IDEMPOTENCY_KEY, PRIORITY_HEADER, WEBHOOK_URL)
)


async def _one(target: Target, classified: Classified, started: float) -> Response:
    done = classified.done
    body = await _result(target, classified)
    total_ms = (time.perf_counter() - started) * 1000
    headers = timing_headers(done, decode_ms=classified.decode_ms, total_ms=total_ms)
    return JSONResponse(body, headers=headers | cache_status([done], enabled=target.client.caches))


async def _several(target: Target, uploads: Sequence[Upload], outcomes: Sequence[Classified | Problem]) -> Response:
    """A list of predictions and failures."""
    results = [
        named(upload.filename, await _result(target, one)) for upload, one in zip(uploads, outcomes, strict=True)
    ]
    done = [outcome.done for outcome in outcomes if not isinstance(outcome, Problem)]
    return JSONResponse(
        Results(success=True, results=results), headers=cache_status(done, enabled=target.client.caches)
    )


async def _result(target: Target, outcome: Classified | Problem) -> Prediction | Values | Failure:
    if isinstance(outcome, Problem):
        return failure(outcome)
    return await target.prediction(outcome.done)


_ABOUT_TOP: Final = (
    f"How many labels, most probable first. Without it {DEFAULT_TOP}, or with a threshold all that reach it"
)
_ONE_AWAITED: Final = "for one image, without Idempotency-Key, Prefer: respond-async and wait=N"
_ABOUT_CLIENT: Final = "Any text that names the client: while a new version is on trial, it stays with one version"


def _top_schema(classes: int | None) -> dict[str, Any]:
    """The schema of `top`; without a maximum if the number of classes is unknown."""
    bounds = {"minimum": 1} if classes is None else {"minimum": 1, "maximum": classes}
    # Without a default: a generated client would always send it, also with a threshold.
    return {"type": "integer", **bounds}


def predict_operation(body: PredictBody, webhooks: WebhookRequests) -> Operation:
    """The declaration, with this body and these webhooks."""
    return Operation(
        "Classify images",
        {
            200: DocumentedResponse(
                "The labels (or the values) of one image, or the results of several in the order sent.",
                Prediction | Values | Results,
                headers=(
                    Header("X-Sluice-Provider", f"ONNX Runtime's execution provider that ran it; {_ONE_AWAITED}"),
                    Header("X-Sluice-Batch", f"How many images ran together; {_ONE_AWAITED}"),
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
        (NoImage, MalformedUpload, BadParameter, BulkKey, UnknownModel, RequestTimeout, PayloadTooLarge, TooManyPixels,
         UnsupportedMediaType, DamagedImage, IdempotencyKeyReused, NoConsumer, ModelUnloaded, *ACCEPTED_PROBLEMS,
         *body.problems, *webhooks.problems),
        (
            Parameter(TOP, "query", _ABOUT_TOP, _top_schema),
            THRESHOLD_PARAMETER,
            PRIORITY_PARAMETER,
            PRIORITY_HEADER,
            PREFER,
            IDEMPOTENCY_KEY,
            CONTENT_ENCODING,
            Parameter(CLIENT_HEADER, "header", _ABOUT_CLIENT, {"type": "string"}),
            *webhooks.parameters,
        ),
        body.documented(),
    )  # fmt: skip
