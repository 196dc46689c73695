"""How long to wait before the next try, and when to give up. Sends nothing; one object for all jobs of a run."""

import random
import time
from dataclasses import dataclass, field

#: The first pause lasts so long at most, each further one up to twice that, never more than the last.
FIRST_S = 0.5
LONGEST_S = 15.0
#: After so many tries, and while others are answered, a picture that fails is taken for the cause.
TRIES = 5


def pause_s(tries: int, after_s: float) -> float:
    """Seconds to wait after so many tries (1 or more): at random, so that jobs refused together do not come together.

    What the service asks for by Retry-After is the least; to this a random part is added.
    """
    longest = min(LONGEST_S, FIRST_S * 2 ** min(tries - 1, 30))
    return after_s + random.uniform(0 if after_s else longest / 2, longest)  # noqa: S311 (not for secrecy)


@dataclass(slots=True)
class RetryPolicy:
    """The service may be away for `limit_s`, counted from the last sign of life that any job had from it."""

    limit_s: float
    last_response_s: float = field(default_factory=time.monotonic)

    def note_response(self) -> None:
        self.last_response_s = time.monotonic()

    def ends(self, since_s: float, after_s: float = 0.0) -> bool:
        """Whether to stop waiting. `since_s`: this picture's first try; `after_s`: the pause that is asked for."""
        return time.monotonic() + after_s - max(since_s, self.last_response_s) > self.limit_s

    def gives_up_on_item(self, tries: int, since_s: float) -> bool:
        """Whether the picture is at fault: the service has answered since its first try, just not to it."""
        return tries >= TRIES and self.last_response_s >= since_s
