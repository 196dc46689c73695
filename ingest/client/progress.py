"""The progress of a run on standard error, and the counts behind its summary and exit status."""

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from tqdm import tqdm

from ingest.client.row import Row

#: Seconds between two plain lines, as in a log file.
_LINE_EVERY_S: Final = 10.0


@dataclass(slots=True)
class RunSummary:
    """`skipped` were in the output already, `failed_before` of these with an error. `retried` counts retries."""

    classified: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    retried: int = 0
    last_reason: str = ""
    began_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, row: Row) -> None:
        if row.error:
            self.failed += 1
        else:
            self.classified += 1

    def skip(self, *, failed: bool) -> None:
        self.skipped += 1
        self.failed_before += failed

    def retry(self, reason: str) -> None:
        """Called from any thread."""
        with self._lock:
            self.retried += 1
            self.last_reason = reason

    @property
    def answered(self) -> int:
        return self.classified + self.failed

    @property
    def status(self) -> int:
        """0: every image has its labels. 1: some have an error instead."""
        return 1 if self.failed or self.failed_before else 0

    def text(self, *, not_sent: int) -> str:
        """The summary; `not_sent` images were left when the run was stopped."""
        seconds = max(1e-3, time.monotonic() - self.began_s)
        before = f" ({self.failed_before:,} with an error; --retry-errors sends these again)"
        return (
            f"classified {self.classified:,}, failed {self.failed:,}, "
            f"skipped {self.skipped:,}{before if self.failed_before else ''}, "
            f"{f'not sent {not_sent:,}, ' if not_sent else ''}"
            f"retried {self.retried:,} in {seconds:.1f} s ({self.answered / seconds:.1f} images/s)"
        )


class Progress(Protocol):
    """`show` is called for every row and several times a second; `say` prints a line."""

    def show(self, answered: int, total: int) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


def progress(total: int, *, quiet: bool) -> Progress:
    """`quiet`: the rows themselves go to the same terminal."""
    return Bar(total) if sys.stderr.isatty() and not quiet else Lines(quiet=quiet)


class Bar:
    """A progress bar with count, rate and time left."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total or None, unit="image", smoothing=0.05, dynamic_ncols=True)

    def show(self, answered: int, total: int) -> None:
        # The number of a video's frames is an estimate at first.
        self._bar.total = max(total, answered) or None
        self._bar.update(answered - self._bar.n)

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


class Lines:
    """Plain lines, for log files and for terminals that show the rows."""

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
        self.say(f"{answered:,} of {total:,} images, {rate:.1f}/s{left}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (output of the command line)

    def close(self) -> None:
        pass
