"""The time of one run. Knows nothing of what happens in it."""

import asyncio
import time


async def pause(seconds: float) -> None:
    """Let this much time pass: here time itself is what is being arranged, there is no condition to wait for."""
    passed = asyncio.get_running_loop().create_future()
    handle = asyncio.get_running_loop().call_later(max(0.0, seconds), _pass, passed)
    try:
        await passed
    finally:
        handle.cancel()


def _pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


class Clock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began

    def of(self, monotonic_s: float) -> float:
        """A moment of the monotonic clock, as one of the run."""
        return monotonic_s - self._began

    async def until(self, at_s: float) -> None:
        """Wait for a moment of the run; returns at once where it has passed."""
        await pause(at_s - self.now_s)
