"""The body of an inference request: JSON, and the binary data that follows it.

The header Inference-Header-Content-Length says how many bytes of the body are JSON. Without it all of them are.
"""

from dataclasses import dataclass
from typing import Any, Final

from ingest.errors import BadParameter
from ingest.request_json import parse_json_object

HEADER_LENGTH: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Message:
    document: dict[str, Any]
    binary: memoryview


def parse(body: bytes, header_length: str | None) -> Message:
    """Raises BadParameter, PayloadTooLarge."""
    text, binary = _split(body, header_length)
    return Message(parse_json_object(text), binary)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    whole = header_length.isascii() and header_length.isdecimal() and len(header_length) <= 18
    if not (whole and int(header_length) <= len(body)):
        raise BadParameter(
            f"{HEADER_LENGTH} is {header_length[:40]!r}; it must say how many of the body's {len(body)} bytes are JSON."
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]
