"""The body of an inference request taken apart: JSON, the pixels written in it, and binary data. Pure.

The JSON comes first, as long as the header Inference-Header-Content-Length says, then binary data. A tensor's
numbers are lifted out of the JSON before it is parsed.
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from ingest.errors import BadParameter, PayloadTooLarge

HEADER_LENGTH: Final = "Inference-Header-Content-Length"

#: Most bytes of JSON beside the numbers of a tensor. A small document can hold millions of empty objects, each of
#: which takes memory thirty times its length.
_MOST_JSON: Final = 2**20

#: Stands in the document in the place of the numbers lifted out of it; nobody outside can write it.
_LIFTED: Final = secrets.token_hex(16)

_DATA: Final = b'"data"'
_BEGINS_NUMBERS: Final = re.compile(rb'"data"\s{0,64}:\s{0,64}(?=\[[\s\[]{0,400}\d)')

#: How many places called "data" are looked at; an honest request has one.
_MOST_LOOKS: Final = 8


@dataclass(frozen=True, slots=True)
class Envelope:
    """`numbers` is the text of the array that belongs where the document says so (`holds_numbers`)."""

    document: dict[str, Any]
    numbers: bytes
    binary: memoryview

    @staticmethod
    def holds_numbers(data: object) -> bool:
        """Whether the numbers belong in this place of the document."""
        return data == _LIFTED


def split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON and the binary data; raises BadParameter."""
    if header_length is None:
        return body, memoryview(b"")
    whole = header_length.isascii() and header_length.isdecimal() and len(header_length) <= 18
    if not (whole and int(header_length) <= len(body)):
        raise BadParameter(
            f"Inference-Header-Content-Length is {header_length[:40]!r}; it must say how many of the body's "
            f"{len(body)} bytes are JSON."
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def take_apart(text: bytes, binary: memoryview) -> Envelope:
    """Raises BadParameter, PayloadTooLarge."""
    rest, numbers = _lift(text)
    if len(rest) > _MOST_JSON:
        raise PayloadTooLarge(
            f"The request has {len(rest)} bytes of JSON beside its numbers; at most {_MOST_JSON} are taken. "
            "Send encoded pictures as binary data."
        )
    try:
        document = json.loads(rest.decode())
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"The request is no JSON: {str(error).partition(': ')[0]}.") from error
    if not isinstance(document, dict):
        raise BadParameter("The request is no JSON object.")
    return Envelope(document, numbers, binary)


def _lift(text: bytes) -> tuple[bytes, bytes]:
    """The text without its array of numbers, and the array."""
    at = -1
    for _ in range(_MOST_LOOKS):
        at = text.find(_DATA, at + 1)
        if at < 0:
            break
        found = _BEGINS_NUMBERS.match(text, at)
        if found and (end := text.rfind(b"]", found.end(), _first(text, found.end())) + 1):
            begin = found.end()
            return b'%b"%b"%b' % (text[:begin], _LIFTED.encode(), text[end:]), text[begin:end]
    return text, b""


def _first(text: bytes, begin: int) -> int:
    """Where the first quote or brace follows: no array of numbers has any."""
    return min((at for one in (b'"', b"{", b"}") if (at := text.find(one, begin)) >= 0), default=len(text))
