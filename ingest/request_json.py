"""The JSON of a request, parsed within limits, with the base64 and the numbers in it; and the names in its query."""

import base64
import binascii
import gc
import json
import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any, Final

from starlette.datastructures import QueryParams

from ingest.errors import BadParameter, PayloadTooLarge

#: Most bytes of JSON with many values. The parser holds the interpreter for 10 to 20 ms per MB of numbers, and a pixel
#: takes one byte as binary data. Long strings, as of base64, cost little.
MAX_JSON: Final = 4 * 2**20
_MANY_VALUES: Final = 10_000

#: Most objects in JSON, and most members of all objects. An empty object takes memory thirty times its text, and a
#: member takes the parser five times as long as a number.
_MAX_OBJECTS: Final = 10_000

_DATA_URI: Final = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,8},", re.IGNORECASE)

#: Characters of a value in a message.
_SHOWN: Final = 100

#: Characters of base64 that are decoded at once, a multiple of four. Other threads run between two slices.
_SLICE: Final = 2**20

#: The URL-safe alphabet becomes the standard one, and white space goes.
_TO_STANDARD: Final = {ord("-"): "+", ord("_"): "/", **dict.fromkeys(map(ord, " \t\r\n"))}


def parse_json_object(
    text: bytes, *, smaller: str = "binary data", most_with_many_values: int = MAX_JSON
) -> dict[str, Any]:
    """The JSON object; raises BadParameter and PayloadTooLarge. `smaller`: what the API takes instead of numbers."""
    if len(text) > most_with_many_values and text.count(b",") > _MANY_VALUES:
        raise PayloadTooLarge(
            f"The request has {len(text)} bytes of JSON with many values; at most {most_with_many_values} are "
            f"accepted. Send {smaller}, or fewer images at once."
        )
    if max(text.count(b"{"), text.count(b":")) > _MAX_OBJECTS:
        raise PayloadTooLarge(f"The request has more than {_MAX_OBJECTS} objects of JSON, or members of them.")
    # JSON makes no cycles, but to look for them in its arrays took most of the time.
    gc.disable()
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        why = str(error).partition(": ")[0].removesuffix(" starting at")
        raise BadParameter(f"The request is no JSON: {why}{where}.") from error
    finally:
        gc.enable()
    if not isinstance(document, dict):
        raise BadParameter("The request is no JSON object.")
    return document


def shown(value: object) -> str:
    """The beginning of a value of JSON, for messages."""
    return (
        repr(value[:_SHOWN]) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)[:_SHOWN]
    )


def flatten(data: list[Any]) -> list[Any]:
    """The elements of arrays in arrays, in order; raises ValueError if they are not all equally deep."""
    while data and isinstance(data[0], list):
        try:
            data = list(chain.from_iterable(data))
        except TypeError as error:
            raise ValueError("some elements are arrays and some are not") from error
    return data


def whole_numbers(data: list[Any]) -> bytes:
    """Whole numbers from 0 to 255, nested or flat, as one byte each; raises ValueError."""
    numbers = flatten(data)
    if set(map(type, numbers)) != {int}:
        raise ValueError("there is something else than whole numbers")
    try:
        return bytes(numbers)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a number is {'below 0' if min(numbers) < 0 else 'above 255'}") from error


def decode_base64(given: object, name: str) -> bytes:
    """The bytes of base64 or of a `data:` URI with base64; raises BadParameter, which begins with the name."""
    if not isinstance(given, str):
        raise BadParameter(f"{name} is no string. Send the image's bytes as base64.")
    if is_url(given):
        raise BadParameter(f"{name} is a URL. Send the image's bytes as base64.")
    text = given
    if found := _DATA_URI.match(given):
        if not found.group().lower().endswith(";base64,"):
            raise BadParameter(f"{name} is a data: URI without base64. Write data:image/jpeg;base64, and then base64.")
        text = given[found.end() :]
    if not text.isascii():  # To translate it would hold the interpreter for 15 ms per MB.
        raise BadParameter(f"{name} is not base64: it has characters that base64 does not have.")
    text = text.translate(_TO_STANDARD).rstrip("=")
    try:
        return b"".join([_decode_slice(one) for one in _slices(text)])
    except (binascii.Error, ValueError) as error:
        cut = "it ends within a byte" if len(text) % 4 == 1 else "it has characters that base64 does not have"
        raise BadParameter(f"{name} is not base64: {cut}.") from error


def _slices(text: str) -> Iterator[str]:
    if "=" in text:
        raise ValueError("something follows the end")
    for start in range(0, len(text), _SLICE):
        yield text[start : start + _SLICE]


def _decode_slice(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def is_url(given: str) -> bool:
    """Whether this is the URL of an image instead of its bytes."""
    return given[:8].lower().startswith(("http://", "https://"))


def refuse_unknown(query: QueryParams, supported: Collection[str]) -> None:
    """Raise BadParameter for a name that is none of the options of this route: it may be misspelled."""
    if unknown := [name for name in query if name not in supported]:
        raise BadParameter(f"The query has {unknown[0][:40]!r}; supported here: {', '.join(supported)}.")
