"""`POST /v2/models/{model}/infer`: a tensor of images in, a tensor of probabilities out."""

import functools
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ingest.classification import MAX_IMAGES, cancel_on_disconnect
from ingest.errors import (
    UnsupportedMediaType,
)
from ingest.oip.infer_request import REQUEST_SCHEMA
from ingest.oip.infer_response import InferResponse, encode_response
from ingest.oip.infer_runner import InferRunner
from ingest.oip.tensors import INPUT
from ingest.oip.wire import HEADER_LENGTH, parse
from ingest.openapi.operation import EXAMPLE_IMAGE, JSON, Body, DocumentedResponse, Header, Operation, Parameter
from ingest.openapi.problems import INFERENCE_PROBLEMS
from ingest.priority import PRIORITY, PRIORITY_HEADER, PRIORITY_PARAMETER, priority_of
from ingest.request_body import CONTENT_CODINGS, Limits, is_form, read_body
from ingest.request_json import refuse_unknown
from ingest.responses import cache_status

_OCTETS: Final = "application/octet-stream"


class InferEndpoint:
    """The endpoint."""

    def __init__(self, runner: InferRunner, limits: Limits) -> None:
        self._runner = runner
        self._limits = limits

    async def __call__(self, request: Request) -> Response:
        refuse_unknown(request.query_params, (PRIORITY,))
        priority = priority_of(request.headers, request.query_params)
        model, version = request.path_params["model"], request.path_params.get("version")
        target = self._runner.target(model, version, priority, request.headers)
        refuse_form(request)
        body = await read_body(request, self._limits)
        read = functools.partial(parse, body, request.headers.get(HEADER_LENGTH))
        asked = await self._runner.parse(read, target, size=len(body))
        answer = await cancel_on_disconnect(request, self._runner.run(asked, target))
        response = await encode_response(asked, answer)
        response.headers.update(cache_status(answer.predictions, enabled=target.client.caches))
        return response


def refuse_form(request: Request) -> None:
    """Raise UnsupportedMediaType if the body is a form."""
    if is_form(request):
        raise UnsupportedMediaType("The protocol has no forms. Send the request as JSON, followed by binary data.")


_LENGTH: Final = {"type": "integer", "minimum": 0}


def infer_operation(limits: Limits) -> Operation:
    """The declaration, with these limits."""
    tensor = {"name": INPUT, "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_IMAGE.decode()]}
    content: dict[str, dict[str, Any]] = {
        JSON: {"schema": REQUEST_SCHEMA, "example": {"inputs": [tensor]}},
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
        INFERENCE_PROBLEMS,
        (
            Parameter(HEADER_LENGTH, "header", "How many bytes of the body are JSON; all, if left out", _LENGTH),
            Parameter("Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CONTENT_CODINGS)}),
            PRIORITY_PARAMETER,
            PRIORITY_HEADER,
        ),
        Body(
            f"One tensor {INPUT}: UINT8 [N, height, width, channels] or BYTES [N]. JPEG and PNG need binary data after "
            "the JSON: it holds text alone, such as the GIF of the example.",
            content,
        ),
    )
