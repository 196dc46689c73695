"""A rate: how fast a count grows. Pure arithmetic."""

from collections import deque


class Rate:
    """Growth per second of a count that only grows, over the last `window_s` seconds."""

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, count: int) -> float | None:
        """The rate, now that the count is this; None for the first, and where the count began anew."""
        if self._seen and (count < self._seen[-1][1] or at_s < self._seen[-1][0]):
            self._seen.clear()
        self._seen.append((at_s, count))
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - self._window_s:
            self._seen.popleft()
        since_s, before = self._seen[0]
        return (count - before) / (at_s - since_s) if at_s > since_s else None
