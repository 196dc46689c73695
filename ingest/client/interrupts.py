"""Handles Ctrl-C and SIGTERM between two rows, never in the middle of one."""

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Within the block, the first signal waits for `check`; the second ends the process at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._number = 0
        self._checked = False
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Calls `stop`, once, if a signal has arrived."""
        if self._number and not self._checked:
            self._checked = True
            self._stop()

    @property
    def status(self) -> int:
        """The exit status as shells define it, 128 plus the signal; 0 without a signal."""
        return 128 + self._number if self._number else 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._number:
            os._exit(128 + number)
        self._number = number
