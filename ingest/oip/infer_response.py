"""The answer to an inference request: its JSON, and the binary data behind it. Knows no Redis."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from starlette.responses import Response

from ingest.errors import Overloaded
from ingest.oip.infer_request import Asked
from ingest.oip.tensors import OUTPUT, float_data, float_json, ranked, string_data, string_json
from ingest.outage import RETRY_S
from results.outcome import Done


async def answer(asked: Asked, name: str, answers: Sequence[Done], labels: Sequence[Sequence[str]]) -> Response:
    """The answers of all images in their order; `labels` are those of the version that answered each.

    Raises Overloaded where two versions answered that do not have the same classes, InferenceFailed.
    """
    if len({len(done.probabilities) for done in answers}) > 1:
        raise Overloaded("The model is being replaced by one with other classes. Send it again.", retry_after_s=RETRY_S)
    rows = np.array([done.probabilities for done in answers], np.float32)
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(rows.shape)}
    if asked.classes:
        texts = []
        for row, names in zip(rows, labels, strict=True):
            texts.append(ranked(row, names, asked.classes))
            await asyncio.sleep(0)
        tensor |= {"datatype": "BYTES", "shape": [len(texts), len(texts[0])]}
        data, parts = string_data(texts) if asked.binary else b"", string_json(texts)
    else:
        data, parts = float_data(rows) if asked.binary else b"", float_json(rows)
    document = _document(asked, name, answers)
    headers = {"X-Sluice-Provider": ", ".join(sorted({done.provider for done in answers}))}
    if asked.binary:
        text = _dump(document | {"outputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]})
        headers["Inference-Header-Content-Length"] = str(len(text))
        return Response(text + data, headers=headers, media_type="application/octet-stream")
    return Response(await _written(document, tensor, parts), headers=headers, media_type="application/json")


def _document(asked: Asked, name: str, answers: Sequence[Done]) -> dict[str, Any]:
    versions = {done.version for done in answers}
    document = {"model_name": name}
    if len(versions) == 1:
        document["model_version"] = versions.pop()
    if asked.id:
        document["id"] = asked.id
    return document


async def _written(document: dict[str, Any], tensor: dict[str, Any], parts: Iterator[bytes]) -> bytes:
    """The answer as JSON, its data last. A million numbers take a second to write: others have their turn between."""
    text = _dump(document | {"outputs": [tensor | {"data": []}]})
    end = text.rindex(b"]}]}")
    written = [text[:end]]
    for part in parts:
        written.append(part)
        await asyncio.sleep(0)
    return b"".join([*written, text[end:]])


def _dump(document: dict[str, Any]) -> bytes:
    # All but ASCII is escaped: what the client calls its request may hold half a surrogate pair.
    return json.dumps(document, separators=(",", ":")).encode()
