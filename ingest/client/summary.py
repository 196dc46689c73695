"""What a run has done so far, its last words and its exit status. Counts, and prints nothing."""

import threading
import time
from dataclasses import dataclass, field

from ingest.client.row import Row


@dataclass(slots=True)
class RunSummary:
    """`skipped` were in the output already, `failed_before` of them with an error; `retried` counts requests sent again."""

    classified: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    retried: int = 0
    last_reason: str = ""
    began_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, row: Row) -> None:
        if row.error:
            self.failed += 1
        else:
            self.classified += 1

    def skip(self, *, failed: bool) -> None:
        self.skipped += 1
        self.failed_before += failed

    def retry(self, reason: str) -> None:
        """From any thread."""
        with self._lock:
            self.retried += 1
            self.last_reason = reason

    @property
    def answered(self) -> int:
        return self.classified + self.failed

    @property
    def status(self) -> int:
        """0: every picture has its labels; 1: some have an error instead."""
        return 1 if self.failed or self.failed_before else 0

    def summary(self) -> str:
        seconds = max(1e-3, time.monotonic() - self.began_s)
        earlier = (
            f" ({self.failed_before:,} with an error; --retry-errors tries these again)" if self.failed_before else ""
        )
        return (
            f"classified {self.classified:,}, failed {self.failed:,}, skipped {self.skipped:,}{earlier}, "
            f"retried {self.retried:,} in {seconds:.1f} s ({self.answered / seconds:.1f} images/s)"
        )
