"""Where the outcome of a request is to be delivered. It travels in the entry, and a consumer passes it on unread.

One line of ASCII: a CRC-32, decimal, and JSON.

    <crc> {"id": <request id>, "url": <where to>, "threshold": <lowest probability of a label, or null>}
"""

import json
import re
import zlib
from dataclasses import asdict, dataclass
from typing import Final, Self

from stream.unreadable import parse_json

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """`threshold` leaves labels with a lower probability out of the delivery, as in a response."""

    id: str
    url: str
    threshold: float | None = None

    def encode(self) -> str:
        text = json.dumps(asdict(self))
        return f"{zlib.crc32(text.encode())} {text}"

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read what `encode` wrote; raises ValueError for anything else, and for a line that was damaged."""
        crc, _, text = line.partition(" ")
        if crc != str(zlib.crc32(text.encode())):
            raise ValueError("the webhook was damaged in Redis: its checksum does not fit")
        match parse_json(text):
            case {"id": str(request_id), "url": str(url), "threshold": None | float() | int() as threshold}:
                if _ID.fullmatch(request_id):
                    return cls(request_id, url, threshold)
        raise ValueError(f"not a webhook: {text[:80]!r}")
