"""Rewriting the embedded server's append-only file without holding it up. Knows no stream.

Left to itself, the server deletes what it has rewritten at once, and on ext4 that frees, and discards, all of its
blocks in one transaction of the journal, for which the next fsync waits, and everything with it: 0.5 s for 2 GB, and
again 0.2 s. So somebody else holds the old file open, and has it shrink step by step when it has been deleted.
"""

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from redis import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: Each image passes through the file, which is rewritten whenever it has grown so far. What the bound costs is the
#: disk, and the time to read the file again after a crash: 0.9 s for 2 GB.
FROM_BYTES: Final = 2 * 2**30

#: At a gigabyte a second, the file is half a gigabyte longer than it should be when it is noticed.
_LOOK_EVERY_S: Final = 0.5

#: What is freed at once, and how often: 640 MB a second, of which nobody notices anything.
_STEP_BYTES: Final = 32 * 2**20
_STEP_EVERY_S: Final = 0.05


def keep_short(
    server: Redis,
    data_dir: Path,
    ended: threading.Event,
    *,
    from_bytes: int = FROM_BYTES,
    every_s: float = _LOOK_EVERY_S,
) -> None:
    """Have the file in `data_dir` rewritten whenever it is due, until `ended`."""
    while not ended.wait(every_s):
        try:
            if is_due(server.info("persistence"), from_bytes):
                _rewrite(server, data_dir, ended)
        except (OSError, RedisError) as error:
            # The server begins or ends; and from twice the size it acts by itself.
            logger.debug("the append-only file is not rewritten: %s", error)


def is_due(persistence: Mapping[str, Any], from_bytes: int) -> bool:
    """Whether the file is that long, and twice as long as what it would become: at most half of all writing is this."""
    size, base = persistence.get("aof_current_size", 0), persistence.get("aof_base_size", 0)
    return not persistence["aof_rewrite_in_progress"] and size >= max(from_bytes, 2 * base)


def _rewrite(server: Redis, data_dir: Path, ended: threading.Event) -> None:
    """Begin, wait for the end, and free what is not needed any more."""
    with ExitStack() as stack:
        old = [stack.enter_context(path.open("r+b")) for path in (data_dir / "appendonlydir").glob("*.aof")]
        for file in old:
            os.fsync(file.fileno())  # The server begins with an fsync of its own, for which everything waits.
        server.bgrewriteaof()
        while server.info("persistence")["aof_rewrite_in_progress"] and not ended.wait(_STEP_EVERY_S):
            pass
        for file in old:
            _shrink(file, ended)


def _shrink(file: BinaryIO, ended: threading.Event) -> None:
    """Cut a deleted file off from its end; one that still has a name is in use."""
    found = os.fstat(file.fileno())
    left = found.st_size if found.st_nlink == 0 else 0
    while left > 0:
        left = max(0, left - _STEP_BYTES)
        file.truncate(left)
        if ended.wait(_STEP_EVERY_S):
            return
