"""Shows on a stream which step is running and for how long.  Knows nothing of the steps.

On a terminal one line is kept up to date; elsewhere (a log, a pipe) each step is one line.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

#: Between two updates of the line.
REFRESH_S = 0.25


class Progress:
    def __init__(self, stream: TextIO, *, steps: int) -> None:
        self._stream = stream
        self._steps = steps
        self._done = 0
        self._terminal = stream.isatty()

    @contextmanager
    def step(self, title: str, *, silent: bool = False) -> Iterator[None]:
        """Runs its block as the next step; `silent` leaves the terminal to the block's own display."""
        self._done += 1
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

    def _tick(self, text: str, stop: threading.Event) -> None:
        start = time.monotonic()
        while True:
            stopped = stop.wait(REFRESH_S)
            self._write(f"\r{text}  {time.monotonic() - start:.1f} s" + ("\n" if stopped else ""))
            if stopped:
                return

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
