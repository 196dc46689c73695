"""The id by which the logs of a client, of a proxy and of ingest name the same request, over HTTP or gRPC.

A client may choose it. Otherwise it is the id of the request's first image, which results, dead letters and the logs of
consumers name, too. A request without an image gets a new one.
"""

import re
from typing import Final

from stream.host.logs import request_ids
from stream.keys import new_id

HEADER: Final = "X-Request-Id"

#: The header as ASGI has it, and as gRPC's metadata has it.
RAW_HEADER: Final = HEADER.lower().encode()
METADATA: Final = HEADER.lower()

#: What other programs use: hexadecimal digits, UUIDs, base64, `Root=1-...`. No comma, which separates ids in log lines.
_WELL_FORMED: Final = re.compile(r"[\w.:/+=@~-]{1,128}", re.ASCII)


def begin(sent: str) -> None:
    """A request begins. The log lines of this task name the id that the client sent, if it is well-formed."""
    request_ids.set([sent] if sent and _WELL_FORMED.fullmatch(sent) else [])


def current() -> str:
    """The id of the current request. From now on, the log lines of this task name it."""
    ids = request_ids.get()
    if ids is None:
        request_ids.set(ids := [])
    if not ids:
        ids.append(new_id())
    return ids[0]
