"""The folder in which the workers of one ingest keep their metrics, and the removal of what killed ingests left."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "sluice-metrics-"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new folder, removed at the end. A lock marks it as in use; the lock ends with the process, however it ends."""
    _remove_abandoned()
    # Nobody may take it for abandoned before it is locked, so it gets its name afterwards.
    unnamed = Path(tempfile.mkdtemp(prefix="sluice-new-"))
    lock = os.open(unnamed, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = unnamed.rename(unnamed.with_name(unnamed.name.replace("sluice-new-", _PREFIX)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # It may be somebody else's, or end meanwhile.
        with suppress(OSError):
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid == os.getuid():
            shutil.rmtree(folder)
    finally:
        os.close(lock)
