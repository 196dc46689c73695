"""The embedded server's append-only file: how it is written for each level of durability, and who may read it."""

import logging
import os
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

from stream.settings import Durability

logger = logging.getLogger(__name__)

#: `appendfsync` for each level. With `everysec` the server answers before it writes, if an fsync takes long; with
#: `no` and `always` it always writes first, so that what it answered survives the end of its process.
APPENDFSYNC: Final[dict[Durability, str]] = {"memory": "everysec", "process": "no", "disk": "always"}

#: Every image passes through the file. The server rewrites it, in a process of its own, when it is this long and twice
#: as long as what it holds. Reading 512 MB again after a crash takes 0.3 s.
REWRITE_FROM_BYTES: Final = 512 * 2**20

#: How much a power failure can lose at the level `process`, and the time that a sync takes.
_SYNC_EVERY_S: Final = 1.0

#: A deleted file of 512 MB is freed within 1.3 s.
_FREED_BYTES: Final = 8 * 2**20
_FREE_EVERY_S: Final = 0.02
_LOOK_EVERY_S: Final = 1.0


def keep_synced(data_dir: Path, ended: threading.Event) -> None:
    """Sync the file to the disk every second, until `ended`. Done here, it never holds up the server's answers."""
    while not ended.wait(_SYNC_EVERY_S):
        for path in _incremental_files(data_dir):
            try:
                _sync(path)
            except FileNotFoundError:  # It was rewritten meanwhile.
                continue
            except OSError as error:
                logger.warning("cannot sync %s: %s", path, error)


def free_deleted(data_dir: Path, ended: threading.Event) -> None:
    """Free the space of each file that the server deletes after a rewrite, in steps, until `ended`.

    A file system frees a deleted file at once when nobody has it open any more, and the server's writes wait for that:
    0.1 s for 512 MB (ext4 with `discard`). In steps, the longest wait is about 12 ms (median of 16 rewrites).
    """
    opened: dict[Path, FileIO] = {}
    while not ended.wait(_LOOK_EVERY_S):
        for path in set(_incremental_files(data_dir)) - opened.keys():
            with suppress(OSError):  # It was deleted meanwhile.
                opened[path] = FileIO(path, "r+")
        for path in [path for path in opened if not path.exists()]:
            with opened.pop(path) as file:
                _free(file, ended)
    for file in opened.values():
        file.close()


def _free(file: FileIO, ended: threading.Event) -> None:
    status = os.fstat(file.fileno())
    if status.st_nlink:  # It has another name, so somebody keeps it.
        return
    size = status.st_size
    with suppress(OSError):  # Then the file system frees the rest at once.
        while size and not ended.wait(_FREE_EVERY_S):
            size = max(0, size - _FREED_BYTES)
            file.truncate(size)


def _incremental_files(data_dir: Path) -> list[Path]:
    """The parts of the file that the server appends to: one, or two during a rewrite."""
    return list((data_dir / "appendonlydir").glob("*.incr.aof"))


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def make_files_private(data_dir: Path) -> None:
    """Take from other users what an earlier version let them read: the images in the file, and the log."""
    for folder in (data_dir, data_dir / "appendonlydir"):
        if folder.is_dir():
            folder.chmod(0o700)
    for pattern in ("appendonlydir/*", "*.log", "lock"):
        for path in data_dir.glob(pattern):
            path.chmod(0o600)
