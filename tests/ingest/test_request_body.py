"""Small work runs in the event loop, and large work beside it."""

import asyncio
import threading

import pytest

from ingest.request_body import in_thread_if_large

pytestmark = pytest.mark.anyio


async def test_only_large_work_leaves_the_event_loop() -> None:
    """A thread costs a request more than a millisecond's work does others."""
    here = threading.get_ident()
    assert await in_thread_if_large(threading.get_ident, size=2**16) == here
    assert await in_thread_if_large(threading.get_ident, size=2**16 + 1) != here


async def test_large_work_with_the_same_lock_runs_one_at_a_time() -> None:
    """Each takes several times its size in memory."""
    running, lock = threading.Semaphore(1), asyncio.Lock()

    def work() -> bool:
        alone = running.acquire(blocking=False)
        threading.Event().wait(0.01)
        if alone:
            running.release()
        return alone

    assert all(await asyncio.gather(*(in_thread_if_large(work, size=2**20, lock=lock) for _ in range(4))))
