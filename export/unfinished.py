"""Files and folders that must be gone when an export ends, also when a signal ends it."""

import contextlib
import shutil
from pathlib import Path

_paths: set[Path] = set()


def add(path: Path | str) -> None:
    """Lists a file or folder, before it is made if possible."""
    _paths.add(Path(path))


def remove(path: Path) -> None:
    """Removes a listed file if it is there."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    _paths.discard(path)


def remove_all() -> None:
    """Removes all that is listed and there."""
    for path in list(_paths):
        shutil.rmtree(path, ignore_errors=True)
        remove(path)
