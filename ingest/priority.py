"""The priority class that a client asks for: `?priority=interactive|bulk`, or the Priority header (RFC 9218).

The urgency u of the header is 0 to 7, and 3 without one. Up to 4 is interactive: browsers send up to 4 by themselves.
From 5 on is bulk: RFC 9218 has those urgencies for what nobody waits for, such as background downloads.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.datastructures import Headers, QueryParams

from ingest.auth.api_keys import BULK
from ingest.auth.owner import marks
from ingest.errors import BadParameter, BulkKey
from ingest.openapi.operation import Parameter
from stream.keys import PRIORITIES, Priority

PRIORITY: Final = "priority"

PRIORITY_PARAMETER: Final = Parameter(
    PRIORITY,
    "query",
    "The class of the images; interactive ones go first. It wins over the header Priority",
    {"enum": list(PRIORITIES)},
)
PRIORITY_HEADER: Final = Parameter(
    "Priority",
    "header",
    "u=N (RFC 9218): up to 4 is interactive, from 5 to 7 bulk",
    {"type": "string", "examples": ["u=5"]},
)

#: The least urgency of a bulk image, and the least of all.
_BULK_URGENCY: Final = 5
_LEAST_URGENCY: Final = 7

_MEMBER: Final = re.compile(r"\s*(?P<key>[a-z*][a-z0-9_.*-]*)\s*(=\s*(?P<value>[^;]*))?(;.*)?", re.DOTALL)


def priority_of(headers: Headers, query: QueryParams, *, default: Priority = "interactive") -> Priority:
    """The class that a request asks for; raises BadParameter and BulkKey."""
    if PRIORITY in query:
        named = _named(query.getlist(PRIORITY))
        if named == "interactive" and BULK in marks.get():
            raise BulkKey(
                f"This API key is limited to bulk images. Leave {PRIORITY} out, or ask the operator for another."
            )
        return named
    if PRIORITY not in headers and BULK not in marks.get():
        return default
    return header_priority(headers.getlist(PRIORITY), default=default)


def header_priority(values: Iterable[str], *, default: Priority = "interactive") -> Priority:
    """The class that all Priority headers of a request together ask for; raises BadParameter.

    All images of a key that is limited to bulk are bulk: the header is a wish, which browsers express by themselves.
    """
    urgency = _urgency(", ".join(values))
    if BULK in marks.get():
        return "bulk"
    if urgency is None:
        return default
    return "bulk" if urgency >= _BULK_URGENCY else "interactive"


def _named(given: Sequence[str]) -> Priority:
    for priority in PRIORITIES:
        if list(given) == [priority]:
            return priority
    raise BadParameter(f"{PRIORITY} is {', '.join(given)[:40]!r}; it must be given once, as {' or '.join(PRIORITIES)}.")


def _urgency(header: str) -> int | None:
    """The urgency in a Priority header, None if it has none; raises BadParameter.

    Other members than u say nothing about a class, and are ignored, as RFC 9218 wants it.
    """
    urgency = None
    for member in filter(str.strip, header.split(",")):
        found = _MEMBER.fullmatch(member)
        if found is None or found["key"] in PRIORITIES:
            raise _bad_header(header)
        if found["key"] == "u":
            value = (found["value"] or "").strip()
            if not (value.isascii() and value.isdecimal() and len(value) == 1 and int(value) <= _LEAST_URGENCY):
                raise _bad_header(header)
            urgency = int(value)
    return urgency


def _bad_header(header: str) -> BadParameter:
    return BadParameter(
        f"The header or metadata {PRIORITY} is {header[:40]!r}; write u=0 to u={_LEAST_URGENCY} (RFC 9218), for "
        f"example u=5 for bulk images. Over HTTP, ?{PRIORITY}=bulk does the same."
    )
