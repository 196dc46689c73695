"""Encodes the response to an inference request: JSON, and the binary data that follows it."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NotRequired

import numpy as np
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.errors import RETRY_S, Overloaded
from ingest.oip.infer_request import InferRequest
from ingest.oip.tensors import float_data, float_json, output_name, ranked, string_data, string_json
from results.outcome import Done


class OutputTensor(TypedDict):
    """Probabilities or labels of all images; `data` is absent if it follows as binary data."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, int]]


class InferResponse(TypedDict):
    """The response to an inference request."""

    model_name: str
    model_version: NotRequired[str]
    id: NotRequired[str]
    outputs: list[OutputTensor]


async def encode_response(
    asked: InferRequest, name: str, predictions: Sequence[Done], labels: Sequence[Sequence[str]]
) -> Response:
    """The predictions of all images in order; `labels` are those of the version that answered each.

    Raises Overloaded if two versions answered that do not have the same classes, and InferenceFailed.
    """
    if len({len(done.probabilities) for done in predictions}) > 1:
        raise Overloaded(
            "The model is being replaced by one with other classes. Send the request again.", retry_after_s=RETRY_S
        )
    rows = np.array([done.probabilities for done in predictions], np.float32)
    tensor: dict[str, Any] = {
        "name": output_name(predictions[0].output_kind),
        "datatype": "FP32",
        "shape": list(rows.shape),
    }
    if asked.classes:
        texts = []
        for row, names in zip(rows, labels, strict=True):
            texts.append(ranked(row, names, asked.classes))
            await asyncio.sleep(0)
        tensor |= {"datatype": "BYTES", "shape": [len(texts), len(texts[0])]}
        data, parts = string_data(texts) if asked.binary else b"", string_json(texts)
    else:
        data, parts = float_data(rows) if asked.binary else b"", float_json(rows)
    document = _document(asked, name, predictions)
    headers = {"X-Sluice-Provider": ", ".join(sorted({done.provider for done in predictions}))}
    if asked.binary:
        text = _dump(document | {"outputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]})
        headers["Inference-Header-Content-Length"] = str(len(text))
        return Response(text + data, headers=headers, media_type="application/octet-stream")
    return Response(await _written(document, tensor, parts), headers=headers, media_type="application/json")


def _document(asked: InferRequest, name: str, predictions: Sequence[Done]) -> dict[str, Any]:
    versions = {done.version for done in predictions}
    document = {"model_name": name}
    if len(versions) == 1:
        document["model_version"] = versions.pop()
    if asked.id:
        document["id"] = asked.id
    return document


async def _written(document: dict[str, Any], tensor: dict[str, Any], parts: Iterator[bytes]) -> bytes:
    """The response as JSON, its data last. A million numbers take a second to write: other requests run in between."""
    text = _dump(document | {"outputs": [tensor | {"data": []}]})
    end = text.rindex(b"]}]}")
    written = [text[:end]]
    for part in parts:
        written.append(part)
        await asyncio.sleep(0)
    return b"".join([*written, text[end:]])


def _dump(document: dict[str, Any]) -> bytes:
    # Everything but ASCII is escaped, because the client's id may hold half a surrogate pair.
    return json.dumps(document, separators=(",", ":")).encode()
