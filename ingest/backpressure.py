"""Backpressure: limits on waiting images, by number and by time, that refuse work before it costs anything.

One limit bounds the images in the stream, another those that wait to be decoded. Without them an overloaded service
would decode images that it then refuses, and take the cores from the consumers: the more is offered, the less is done.
"""

import math
import time
from collections.abc import Callable
from typing import Final

#: Fewest images that may wait, whatever the rate: one batch for a consumer that has just started.
_MIN_LIMIT: Final = 32

#: The share of the queue that drains before images are accepted again, and the longest such pause in seconds.
_DRAINED_SHARE: Final = 0.1
_MAX_CLOSED_S: Final = 0.5

#: Retry-After in seconds: where no rate is known to compute it from, and its upper bound where one is known.
_DEFAULT_RETRY_S: Final = 2.0
_MAX_RETRY_S: Final = 60.0


class BacklogLimit:
    """Limits the backlog to `max_backlog` images, and to what is done within `max_wait_s` at the measured rate."""

    def __init__(self, *, max_backlog: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_backlog = max_backlog
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._images_per_s = 0.0
        self._closed_until_s = -math.inf

    def set_rate(self, images_per_s: float) -> None:
        """The rate of all live consumers, or of all threads, together; 0 if unknown."""
        self._images_per_s = images_per_s

    @property
    def limit(self) -> int:
        """How many images may wait now."""
        if self._images_per_s == 0:
            return self._max_backlog
        return min(self._max_backlog, max(_MIN_LIMIT, int(self._images_per_s * self._max_wait_s)))

    @property
    def is_closed(self) -> bool:
        """Whether any image would be refused."""
        return self._clock() < self._closed_until_s

    def close_for(self, backlog: int) -> None:
        """The queue was full with this many images: refuse others until a part of them is done."""
        self._closed_until_s = self._clock() + min(self._drain_s(backlog) * _DRAINED_SHARE, _MAX_CLOSED_S)

    def retry_after_s(self, backlog: int) -> float:
        """When the backlog will have drained, as far as is known."""
        return min(self._drain_s(backlog), _MAX_RETRY_S)

    def _drain_s(self, backlog: int) -> float:
        return backlog / self._images_per_s if self._images_per_s > 0 else _DEFAULT_RETRY_S
