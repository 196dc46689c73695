"""What happens to a value in Redis that cannot be read: it is logged, counted and skipped, and ends no process.

Anybody who reaches Redis can write there, another version of Sluice among them.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

logger = logging.getLogger(__name__)

#: A value that stays unreadable is logged again after this time.
_LOG_EVERY_S: Final = 600.0

#: Keys remembered, so that garbage cannot fill the memory.
_MOST_KEYS: Final = 1000

#: Called with the kind of each unreadable value; a process that has metrics adds its own.
listeners: list[Callable[[str], None]] = []

#: How a server says that a script may not do what it tries.
_NO_RIGHTS: Final = ("ACL failure", "user executing the script")

#: Beginnings of errors of the server's state for which redis-py has no class.
_STATES: Final = ("MISCONF", "NOREPLICAS", "BUSY ")

_logged: dict[tuple[str, str], float] = {}


def skip(kind: str, key: str, error: Exception) -> None:
    """Note that a value of this kind under this Redis key is skipped, and why.

    If Redis is full, or refuses it to its user, the value is not at fault and does not count.
    """
    if lacks_rights(error):
        if _is_due(kind, key):
            logger.warning("Redis refuses its user the %s: key=%s: %s", kind, key, error)
    elif _is_of_the_server(error):
        logger.debug("cannot use the %s: key=%s: %s", kind, key, error)
    else:
        for listener in listeners:
            listener(kind)
        if _is_due(kind, key):
            logger.warning("skipped a value in Redis that is no %s: key=%s: %s", kind, key, error)


def _is_due(kind: str, key: str) -> bool:
    """Whether it is to be logged now."""
    now = time.monotonic()
    if now - _logged.get((kind, key), -_LOG_EVERY_S) < _LOG_EVERY_S:
        return False
    if len(_logged) >= _MOST_KEYS:
        _logged.clear()
    _logged[kind, key] = now
    return True


def lacks_rights(error: Exception) -> bool:
    """Whether Redis refuses a command, or one in a script, because of the rights of its user."""
    return isinstance(error, NoPermissionError) or (
        isinstance(error, ResponseError) and any(text in str(error) for text in _NO_RIGHTS)
    )


def _is_of_the_server(error: Exception) -> bool:
    """Whether the server would refuse the same for any value, for example because it is full."""
    return isinstance(error, RedisError) and (type(error) is not ResponseError or str(error).startswith(_STATES))
