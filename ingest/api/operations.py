"""What the routes of `/predict`, `/results` and those for operators take and answer. Knows no endpoint."""

from typing import Final

from ingest.api import top
from ingest.api.async_requests import LONGEST_KEY
from ingest.api.dead_letters import Replayed
from ingest.api.health import Alive, Ready
from ingest.api.models import ModelList
from ingest.errors import (
    BadParameter,
    Cancelled,
    DamagedImage,
    DeadlinePassed,
    InferenceFailed,
    KeyReused,
    MalformedUpload,
    NoConsumer,
    NoImage,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    StreamUnavailable,
    TooManyPixels,
    UnknownLetter,
    UnknownModel,
    UnknownResult,
    UnsupportedMediaType,
)
from ingest.images.formats import MEDIA_TYPES
from ingest.multipart import IMAGE
from ingest.openapi.operation import Answer, Body, Header, Operation, Parameter
from ingest.shapes import Prediction, Queued, Results
from ingest.uploads import Limits

_APPLIED: Final = Header("Preference-Applied", "What of Prefer was followed")
_PREFER: Final = Parameter(
    "Prefer", "header", "respond-async, or wait=N with N in seconds (RFC 7240); all else is ignored", {"type": "string"}
)
_CAME_BACK: Final = (Cancelled, InferenceFailed, Overloaded, StreamUnavailable, DeadlinePassed)
_LATER: Final = Header("Retry-After", "Seconds until it makes sense to ask", always=True)


def predict(limits: Limits) -> Operation:
    """Classification, within these limits."""
    picture = {"type": "string", "contentMediaType": "image/*"}
    form = {
        "schema": {
            "type": "object",
            "required": [IMAGE],
            "properties": {IMAGE: {"type": "array", "minItems": 1, "maxItems": limits.max_images, "items": picture}},
        },
        "encoding": {IMAGE: {"contentType": ", ".join(MEDIA_TYPES.values())}},
    }
    bare = {kind: {"schema": {"maxLength": limits.max_bytes}} for kind in MEDIA_TYPES.values()}
    return Operation(
        "Classify photographs",
        {
            200: Answer(
                "The labels of one photograph, or the results of several in the order sent.",
                Prediction | Results,
                headers=(
                    Header("X-Sluice-Provider", "ONNX Runtime's execution provider that ran it; of one photograph"),
                    Header("X-Sluice-Batch", "How many images ran together; of one photograph"),
                    Header("Cache-Status", "Where known answers are kept: whether this was one (RFC 9211)"),
                    _APPLIED,
                ),
            ),
            202: Answer(
                "Not answered yet, as was preferred: the places where the results will be.",
                Queued | Results,
                headers=(_LATER, Header("Location", "Where the result will be; of one photograph"), _APPLIED),
            ),
        },
        (NoImage, MalformedUpload, BadParameter, UnknownModel, RequestTimeout, PayloadTooLarge, TooManyPixels,
         UnsupportedMediaType, DamagedImage, KeyReused, NoConsumer, *_CAME_BACK),
        (
            Parameter(top.NAME, "query", "How many labels, most probable first", top.schema),
            _PREFER,
            Parameter(
                "Idempotency-Key",
                "header",
                "The same key with the same image gives the same result, however often it is sent",
                {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
            ),
        ),
        Body(
            f"A form with one or more parts named {IMAGE}, or the picture itself. What it is, its first bytes say.",
            {"multipart/form-data": form, **bare},
        ),
    )  # fmt: skip


_RESULT: Final = {
    200: Answer("The labels.", Prediction, headers=(_APPLIED,)),
    202: Answer("Still queued.", Queued, headers=(_LATER, _APPLIED)),
}
FETCH: Final = Operation("Fetch a result", _RESULT, (UnknownResult, *_CAME_BACK), (_PREFER,))
CANCEL: Final = Operation(
    "Cancel a request",
    {204: Answer("It was queued, and is cancelled.", media_type=None), **_RESULT},
    (UnknownResult, *_CAME_BACK),
    (_PREFER,),
)
MODELS: Final = Operation("What is served", {200: Answer("Each version.", ModelList)}, (StreamUnavailable,))
REPLAY: Final = Operation(
    "Give a dead letter another chance", {200: Answer("It is queued.", Replayed)}, (UnknownLetter, StreamUnavailable)
)
ALIVE: Final = Operation("Whether the process lives", {200: Answer("It answers.", Alive)})
READY: Final = Operation("Whether images are taken", {200: Answer("They are.", Ready)}, (NoConsumer, StreamUnavailable))
LIVE: Final = Operation(
    "A snapshot each second", {200: Answer("Server-sent events, without an end.", media_type="text/event-stream")}
)
METRICS: Final = Operation("What was counted and measured", {200: Answer("For Prometheus.", media_type="text/plain")})
