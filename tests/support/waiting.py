"""Waiting for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_INTERVAL_S = 0.02

#: Seconds: below pytest's limit for a test, and long for anything, also on a machine that does much else.
PATIENCE_S = 100


def wait_until(condition: Callable[[], object], description: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail with the description if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {description}"
        time.sleep(_INTERVAL_S)


async def eventually(
    condition: Callable[[], Awaitable[object]], description: str, *, timeout_s: float = PATIENCE_S
) -> None:
    """`wait_until` for coroutines."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {description}"
        await asyncio.sleep(_INTERVAL_S)
