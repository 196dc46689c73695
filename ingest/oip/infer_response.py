"""The answer to an inference request, and its encoding as JSON with the binary data that follows it."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

import numpy as np
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.errors import RETRY_S, Overloaded
from ingest.oip.infer_request import InferRequest
from ingest.oip.tensors import Rows, float_data, float_json, output_name, ranked, string_data, string_json
from results.outcome import Done


class OutputTensor(TypedDict):
    """Probabilities or labels of all images; `data` is absent if it follows as binary data."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, int]]


_EXAMPLE: Final = OutputTensor(name="probabilities", datatype="FP32", shape=[1, 2], data=[0.62, 0.38])


class InferResponse(TypedDict):
    """The response to an inference request."""

    model_name: str
    model_version: NotRequired[str]
    id: NotRequired[str]
    outputs: Annotated[list[OutputTensor], Field(examples=[[_EXAMPLE]])]


@dataclass(frozen=True, slots=True)
class Answer:
    """The predictions for all images of a request, before a transport encodes them.

    `rows` are the probabilities, float32 [N, classes]. `texts` are the most probable classes of each image instead, if
    the request asks for them. `version` is empty if several versions took part.
    """

    model: str
    version: str
    predictions: Sequence[Done]
    rows: Rows
    texts: list[list[str]] | None

    @property
    def tensor(self) -> str:
        """The name of the output."""
        return output_name(self.predictions[0].output_kind)

    @property
    def datatype(self) -> Literal["FP32", "BYTES"]:
        return "FP32" if self.texts is None else "BYTES"

    @property
    def shape(self) -> list[int]:
        return list(self.rows.shape) if self.texts is None else [len(self.texts), len(self.texts[0])]

    @property
    def data(self) -> bytes:
        """The tensor as binary data."""
        return float_data(self.rows) if self.texts is None else string_data(self.texts)

    @property
    def providers(self) -> str:
        """The execution providers that ran the images."""
        return ", ".join(sorted({done.provider for done in self.predictions}))


async def make_answer(
    asked: InferRequest, model: str, predictions: Sequence[Done], labels: Sequence[Sequence[str]]
) -> Answer:
    """The predictions of all images in order; `labels` are those of the version that answered each.

    Raises Overloaded if two versions answered that do not have the same classes.
    """
    if len({len(done.probabilities) for done in predictions}) > 1:
        raise Overloaded(
            "The model is being replaced by one with other classes. Send the request again.", retry_after_s=RETRY_S
        )
    rows = np.array([done.probabilities for done in predictions], np.float32)
    texts: list[list[str]] = []
    for row, names in zip(rows, labels, strict=True) if asked.classes else ():
        texts.append(ranked(row, names, asked.classes))
        await asyncio.sleep(0)
    versions = {done.version for done in predictions}
    return Answer(model, versions.pop() if len(versions) == 1 else "", predictions, rows, texts or None)


async def encode_response(asked: InferRequest, answer: Answer) -> Response:
    """The response over HTTP. Raises InferenceFailed if a value is no number, which JSON cannot hold."""
    tensor: dict[str, Any] = {"name": answer.tensor, "datatype": answer.datatype, "shape": answer.shape}
    document = _document(asked, answer)
    headers = {"X-Sluice-Provider": answer.providers}
    if asked.binary:
        data = answer.data
        text = _dump(document | {"outputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]})
        headers["Inference-Header-Content-Length"] = str(len(text))
        return Response(text + data, headers=headers, media_type="application/octet-stream")
    parts = float_json(answer.rows) if answer.texts is None else string_json(answer.texts)
    return Response(await _written(document, tensor, parts), headers=headers, media_type="application/json")


def _document(asked: InferRequest, answer: Answer) -> dict[str, Any]:
    document = {"model_name": answer.model}
    if answer.version:
        document["model_version"] = answer.version
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
    return b"".join([*written, text[end:], b"\n"])


def _dump(document: dict[str, Any]) -> bytes:
    # Everything but ASCII is escaped, because the client's id may hold half a surrogate pair.
    return json.dumps(document, separators=(",", ":")).encode()
