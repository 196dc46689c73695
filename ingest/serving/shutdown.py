"""Runs code at the begin of a shutdown, or starts a shutdown when a task fails.

Uvicorn waits for every response that is being sent, and the application hears of the shutdown only after that. A
response without an end would delay the shutdown for the whole grace period. Uvicorn has no hook for this, so this
module wraps its signal handlers.
"""

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)


def on_shutdown(callback: Callable[[], None]) -> None:
    """Call `callback` on this event loop at the first SIGTERM or SIGINT, before the handler that was set before."""
    # Only the main thread may set handlers. Elsewhere, as in a test, there are no signals.
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


def exit_on_failure(task: "asyncio.Task[None]", name: str) -> None:
    """Stop the process if this task fails. Without the task it would look alive and serve no request."""
    task.add_done_callback(functools.partial(_exit_if_failed, name))


def _exit_if_failed(name: str, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.critical("the %s has ended, and this process with it", name, exc_info=error)
        signal.raise_signal(signal.SIGTERM)
