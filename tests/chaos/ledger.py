"""The ledger: every request with what became of it, as its client saw it. Knows no network."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Result = Literal[
    "right",  # 200, and the answer is the image's
    "wrong",  # 200, and it is not
    "refused",  # 503: queue full, no live consumer, Redis unavailable
    "expired",  # 504
    "damaged",  # 500 with the reason that a bit has flipped in Redis
    "given up",  # 500 with the reason that the image is a dead letter
    "broken",  # the connection ended because its ingest was killed: nobody knows what was accepted
    "unreachable",  # no ingest took the connection
    "hung up",  # the client disconnected
    "unanswered",  # no answer long after the deadline
    "improper",  # any other answer
    "queued",  # 202, or admitted without HTTP; its outcome is looked up in the end
    "cancelled",  # admitted without HTTP, then cancelled
    "unknown",  # sent without HTTP while Redis was unavailable: perhaps admitted
]


@dataclass(slots=True)
class Request:
    """One request. `image` is its number in the expected; `id` is known where an answer or the client named it."""

    image: int
    sent_s: float
    direct: bool
    id: str = ""
    result: Result = "unanswered"
    code: str = ""
    answered_s: float = 0.0
    detail: str = ""


@dataclass(slots=True)
class Ledger:
    """All requests of a run."""

    requests: list[Request] = field(default_factory=list)

    def open(self, image: int, now_s: float, *, direct: bool = False) -> Request:
        request = Request(image, now_s, direct)
        self.requests.append(request)
        return request

    def count(self, *results: Result, direct: bool | None = None) -> int:
        return sum(one.result in results and direct in (None, one.direct) for one in self.requests)

    def codes(self, result: Result) -> Counter[str]:
        return Counter(one.code for one in self.requests if one.result == result)

    def right_s(self) -> list[float]:
        """When the right answers came, ascending."""
        return sorted(one.answered_s for one in self.requests if one.result == "right" and not one.direct)

    def longest_gap_s(self, end_s: float) -> float:
        """The longest time without a right answer, from the first request to `end_s`."""
        began = min((one.sent_s for one in self.requests), default=0.0)
        moments = [began, *(moment for moment in self.right_s() if moment <= end_s), end_s]
        return max(later - earlier for earlier, later in pairwise(moments))

    def latencies_s(self) -> list[float]:
        """How long the right answers took, ascending."""
        return sorted(one.answered_s - one.sent_s for one in self.requests if one.result == "right" and not one.direct)


def next_after(moments: list[float], moment: float) -> float | None:
    """The first of the ascending moments that is not before this one."""
    position = bisect_left(moments, moment)
    return moments[position] if position < len(moments) else None
