"""Shows on a stream which step is running, for how long and how far it is.

On a terminal one line is kept up to date; elsewhere (a log, a pipe) each step is one line.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

#: Between two updates of the line.
REFRESH_S = 0.25

#: Characters of the bar.
WIDTH = 24


class Progress:
    def __init__(self, stream: TextIO, *, steps: int) -> None:
        self._stream = stream
        self._steps = steps
        self._done = 0
        self._counted = ""
        self._terminal = stream.isatty()

    @contextmanager
    def step(self, title: str, *, silent: bool = False) -> Iterator[None]:
        """Runs its block as the next step; `silent` leaves the terminal to the block's own display."""
        self._done += 1
        self._counted = ""
        text = f"[{self._done}/{self._steps}] {title}"
        if not self._terminal or silent:
            self._write(f"{text}\n")
            yield
            return
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, stop), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            stop.set()
            ticker.join()

    @contextmanager
    def counted(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """The same for a block that calls what it is given with how many of how many are done."""
        with self.step(title):
            yield self._count

    def _count(self, done: int, of: int) -> None:
        filled = WIDTH * done // of
        self._counted = f"  [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{of}"

    def _tick(self, text: str, stop: threading.Event) -> None:
        start = time.monotonic()
        while True:
            stopped = stop.wait(REFRESH_S)
            self._write(f"\r{text}{self._counted}  {time.monotonic() - start:.1f} s" + ("\n" if stopped else ""))
            if stopped:
                return

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
