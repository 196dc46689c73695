"""What happens to a value in Redis that cannot be read: it is logged, counted and skipped, and ends no process.

Anybody who reaches Redis can write there, another version of Sluice among them.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

#: A value that stays unreadable is logged again after this time.
_LOG_EVERY_S: Final = 600.0

#: Keys remembered, so that garbage cannot fill the memory.
_MOST_KEYS: Final = 1000

#: Called with the kind of each unreadable value; a process that has metrics adds its own.
listeners: list[Callable[[str], None]] = []

_logged: dict[tuple[str, str], float] = {}


def skip(kind: str, key: str, error: Exception) -> None:
    """Note that a value of this kind under this Redis key is skipped, and why."""
    for listener in listeners:
        listener(kind)
    now = time.monotonic()
    if now - _logged.get((kind, key), -_LOG_EVERY_S) < _LOG_EVERY_S:
        return
    if len(_logged) >= _MOST_KEYS:
        _logged.clear()
    _logged[kind, key] = now
    logger.warning("skipped a value in Redis that is no %s: key=%s: %s", kind, key, error)
