"""What the protocol's routes take and answer. Knows no endpoint."""

from typing import Any, Final

from ingest.errors import (
    BadParameter,
    Cancelled,
    DamagedImage,
    DeadlinePassed,
    InferenceFailed,
    NoConsumer,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    StreamUnavailable,
    TooManyPixels,
    UnknownModel,
    UnsupportedMediaType,
)
from ingest.oip import metadata
from ingest.oip.body import CODINGS
from ingest.oip.infer_request import MOST_IMAGES
from ingest.oip.schemas import Entry, IndexRequest, Inferred, ModelReady, ServerLive, ServerReady
from ingest.oip.tensors import INPUT, OUTPUT
from ingest.oip.wire import HEADER_LENGTH
from ingest.openapi.operation import JSON, Answer, Body, Header, Operation, Parameter
from ingest.openapi.schemas import inline
from ingest.uploads import Limits

_OCTETS: Final = "application/octet-stream"
_UPLOAD: Final = (BadParameter, PayloadTooLarge, RequestTimeout, UnsupportedMediaType)
_ABSENT: Final = (UnknownModel, NoConsumer, StreamUnavailable)

SERVER: Final = Operation("The server and its extensions", {200: Answer("What it is.", metadata.Server)})
LIVE: Final = Operation("Whether the process lives", {200: Answer("It answers.", ServerLive)})
READY: Final = Operation(
    "Whether images are taken", {200: Answer("They are.", ServerReady)}, (NoConsumer, StreamUnavailable)
)
MODEL: Final = Operation("A model's tensors", {200: Answer("Its metadata.", metadata.Model)}, _ABSENT)
MODEL_READY: Final = Operation("Whether a model is served", {200: Answer("It is.", ModelReady)}, _ABSENT)
CONFIGURATION: Final = Operation(
    "A model's configuration, as Triton has it", {200: Answer("The configuration.", dict[str, Any])}, _ABSENT
)
INDEX: Final = Operation(
    "The versions that are served",
    {200: Answer("Each of them.", list[Entry])},
    _UPLOAD,
    body=Body("What is asked; nothing is the same as {}.", {JSON: {"schema": inline(IndexRequest)}}, required=False),
)


def infer(limits: Limits) -> Operation:
    """Inference, within these limits."""
    return Operation(
        f"Classify 1 to {MOST_IMAGES} images by the Open Inference Protocol",
        {
            200: Answer(
                "The probabilities, or the labels, of all images.",
                Inferred,
                headers=(
                    Header("X-Sluice-Provider", "ONNX Runtime's execution provider that ran it", always=True),
                    Header(HEADER_LENGTH, "How many bytes of the answer are JSON, where binary data follows"),
                    Header("Cache-Status", "Where known answers are kept: whether all of these were known"),
                ),
                others={_OCTETS: {}},
            )
        },
        (*_UPLOAD, *_ABSENT, TooManyPixels, DamagedImage, Cancelled, InferenceFailed, Overloaded, DeadlinePassed),
        (
            Parameter(HEADER_LENGTH, "header", "How many bytes of the body are JSON; all, where left out", _LENGTH),
            Parameter("Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CODINGS)}),
        ),
        Body(
            f"One tensor {INPUT}: UINT8 [N, height, width, 3] or BYTES [N]. Whether its data agrees with its shape no "
            "schema can say.",
            {JSON: {"schema": _REQUEST}, _OCTETS: {"schema": {"maxLength": limits.max_bytes}}},
        ),
    )


_LENGTH: Final = {"type": "integer", "minimum": 0}
_PARAMETERS: Final = {"type": ["object", "null"]}
_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"], "properties": {"binary_data_output": {"type": "boolean"}}},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"const": INPUT},
                    "datatype": {"enum": ["UINT8", "BYTES"]},
                    "shape": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 0},
                        "minItems": 1,
                        "maxItems": 4,
                    },
                    "data": {"type": "array"},
                    "parameters": _PARAMETERS,
                },
            },
        },
        "outputs": {
            "type": ["array", "null"],
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"const": OUTPUT},
                    "parameters": {
                        "type": ["object", "null"],
                        "properties": {
                            "classification": {"type": "integer", "minimum": 0},
                            "binary_data": {"type": "boolean"},
                        },
                    },
                },
            },
        },
    },
}
