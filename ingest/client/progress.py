"""How far the run is, on standard error: a bar on a terminal, plain lines elsewhere. Counts nothing itself."""

import sys
import time
from typing import Protocol

from tqdm import tqdm

#: Between two plain lines, as into a log file.
_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """`show` is called at every row and several times a second; `note` prints a line of its own."""

    def show(self, answered: int, total: int) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def progress(total: int, *, quiet: bool) -> Progress:
    """`quiet`: the rows themselves go to the same terminal."""
    return Bar(total) if sys.stderr.isatty() and not quiet else Lines(quiet=quiet)


class Bar:
    """Share, count, time left and rate, by tqdm."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total or None, unit="image", smoothing=0.05, dynamic_ncols=True)

    def show(self, answered: int, total: int) -> None:
        # What a video has is an estimate at first.
        self._bar.total = max(total, answered) or None
        self._bar.update(answered - self._bar.n)

    def note(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


class Lines:
    """For log files, and for terminals that show the rows."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._quiet = quiet

    def show(self, answered: int, total: int) -> None:
        now = time.monotonic()
        if self._quiet or now - self._shown_s < _LINE_EVERY_S:
            return
        self._shown_s = now
        rate = answered / (now - self._began_s)
        left = f", {max(0, total - answered) / rate:.0f} s left" if rate else ""
        self.note(f"{answered:,} of {total:,} images, {rate:.1f}/s{left}")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the command line's own voice)

    def close(self) -> None:
        pass
