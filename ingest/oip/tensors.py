"""The protocol's tensors: images in, probabilities or labels out, as JSON and as binary data.

Binary data is little-endian, row major, without padding. An element of BYTES is its length in bytes (uint32) and
itself (the protocol's binary tensor data extension).
"""

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.classification import Image
from ingest.errors import BadParameter, InferenceFailed
from ingest.request_body import Upload
from ingest.request_json import whole_numbers
from stream.model import OutputKind

INPUT: Final = "images"
OUTPUT_NAMES: Final = ("probabilities", "values")

Rows = NDArray[np.float32]


def output_name(kind: OutputKind) -> str:
    """The name of the output of a model that gives this kind."""
    return "values" if kind == "values" else "probabilities"


def pixels(data: memoryview | list[Any], count: int, image_bytes: int) -> list[Image]:
    """The images of a UINT8 tensor, from binary data or from numbers; raises BadParameter."""
    if isinstance(data, list):
        try:
            data = memoryview(whole_numbers(data))
        except ValueError as error:
            raise BadParameter(
                f"data of {INPUT} must be a list of whole numbers from 0 to 255, nested or flat: {error}."
            ) from error
    if len(data) != count * image_bytes:
        raise BadParameter(f"{INPUT} has {len(data)} values; its shape says {count * image_bytes}.")
    return [data[start : start + image_bytes] for start in range(0, len(data), image_bytes)]


def elements(data: memoryview | list[Any], count: int) -> list[Image]:
    """The encoded images of a BYTES tensor, from binary data, from strings or from bytes; raises BadParameter."""
    found = [_encoded(one) for one in data] if isinstance(data, list) else list(islice(_elements(data), count + 1))
    if len(found) != count:
        have = f"more than {count}" if len(found) > count else str(len(found))
        raise BadParameter(f"{INPUT} has {have} elements; its shape says {count}.")
    return [Upload(None, one) for one in found]


def _encoded(text: object) -> bytes:
    if isinstance(text, bytes):
        return text
    # The protocol has no base64: a JSON string stands for its own text. Hardly any image is text.
    if not isinstance(text, str):
        raise BadParameter(f"data of {INPUT} must be a list of strings.")
    return text.encode(errors="surrogatepass")


def _elements(data: memoryview) -> Iterator[bytes]:
    begin = 0
    while begin < len(data):
        if begin + 4 > len(data):
            raise BadParameter(f"{INPUT} breaks off in the length of an element.")
        (length,) = struct.unpack_from("<I", data, begin)
        begin += 4 + length
        if begin > len(data):
            raise BadParameter(f"{INPUT} breaks off: an element of {length} bytes has {len(data) - begin + length}.")
        yield bytes(data[begin - length : begin])


def ranked(row: Rows, labels: Sequence[str], count: int) -> list[str]:
    """The `count` most probable classes of one image, as value:index:label (the classification extension).

    Equal values are in class order. A class without a label has no third part. Values have six decimals.
    """
    best = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[index]:f}:{index}" + (f":{labels[index]}" if labels[index] else "") for index in best]


def float_data(rows: Rows) -> bytes:
    return rows.astype("<f4", copy=False).tobytes()


def string_data(rows: Sequence[Sequence[str]]) -> bytes:
    encoded = (one.encode() for row in rows for one in row)
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def float_json(rows: Rows) -> Iterator[bytes]:
    """The numbers of each row, with the commas between them. Nine digits tell any two float32 apart."""
    if not np.isfinite(rows).all():
        raise InferenceFailed("The model's output has values that are no numbers. Ask for binary data to see them.")
    form = ",".join(["%.9g"] * rows.shape[1])
    for number, row in enumerate(rows):
        yield ("," * (number > 0) + form % tuple(row.tolist())).encode()


def string_json(rows: Sequence[Sequence[str]]) -> Iterator[bytes]:
    for number, row in enumerate(rows):
        yield ("," * (number > 0) + ",".join(map(json.dumps, row))).encode()
