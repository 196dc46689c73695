"""The gate: how much may wait, and refusing before any work is spent on what would be refused anyway.

One stands before the stream and one before the threads that decode. Without it an overloaded service decodes
pictures that it then refuses, and takes the cores for that from the consumers: goodput falls the more is offered.
Pure arithmetic, knows no Redis.
"""

import math
import time
from collections.abc import Callable

#: Fewest images that may wait, whatever the rate: a batch for a consumer that has just begun.
_FEWEST = 32

#: The part of the queue that drains before the gate opens again, and the longest time that it stays shut, in seconds.
_DRAINED = 0.1
_LONGEST_SHUT_S = 0.5

#: Retry-After, in seconds, where no rate is known to compute it from, and its upper bound where one is.
_UNKNOWN_S = 2.0
_LONGEST_RETRY_S = 60.0


class Gate:
    """Bounds the backlog by number and by time: at the measured speed nothing waits beyond `max_wait_s`."""

    def __init__(self, *, max_backlog: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_backlog = max_backlog
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._images_per_s = 0.0
        self._shut_until_s = -math.inf

    def set_rate(self, images_per_s: float) -> None:
        """What can be done together: by all living consumers, or all threads; 0 where it is not known."""
        self._images_per_s = images_per_s

    @property
    def most(self) -> int:
        """How many images may wait now."""
        if self._images_per_s == 0:
            return self._max_backlog
        return min(self._max_backlog, max(_FEWEST, int(self._images_per_s * self._max_wait_s)))

    @property
    def shut(self) -> bool:
        """Whether whatever comes would be refused."""
        return self._clock() < self._shut_until_s

    def shut_for(self, backlog: int) -> None:
        """The stream was full with so many images: nobody need try until a part of them is done."""
        self._shut_until_s = self._clock() + min(self._drain_s(backlog) * _DRAINED, _LONGEST_SHUT_S)

    def retry_after_s(self, backlog: int) -> float:
        """When the backlog will have drained, as far as can be known."""
        return min(self._drain_s(backlog), _LONGEST_RETRY_S)

    def _drain_s(self, backlog: int) -> float:
        return backlog / self._images_per_s if self._images_per_s > 0 else _UNKNOWN_S
