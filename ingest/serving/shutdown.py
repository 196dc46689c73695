"""Ending: hear of it before the server waits for its open answers, or bring it about. Knows no endpoint.

Uvicorn waits for every answer that is being sent, and an application hears of the end only after that: an answer
without an end would hold it up for the whole grace. It has no hook for this, so its signal handlers are wrapped.
"""

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)


def on_end(callback: Callable[[], None]) -> None:
    """Call back, on this event loop, at the first SIGTERM or SIGINT; whoever handled them still does."""
    # Only the main thread may; elsewhere, as in a test, nobody sends signals.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            _wrap(number, callback, asyncio.get_running_loop())


def _wrap(number: signal.Signals, callback: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    before = signal.getsignal(number)

    def handle(signum: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)
        if callable(before):
            before(signum, frame)

    signal.signal(number, handle)


def end_with(part: "asyncio.Task[None]", name: str) -> None:
    """End the process where this task fails: without it, it would look alive and answer nobody."""
    part.add_done_callback(functools.partial(_end, name))


def _end(name: str, part: "asyncio.Task[None]") -> None:
    if not part.cancelled() and (error := part.exception()):
        logger.critical("the %s has ended, and this process with it", name, exc_info=error)
        signal.raise_signal(signal.SIGTERM)
