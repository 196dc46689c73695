"""What happens to a value in Redis that cannot be read: it is logged, counted and skipped, and ends no process.

Anybody who reaches Redis can write there, another version of Sluice among them. So JSON from Redis is parsed here, but
for outcomes, whose few fields results/outcome.py checks for each image: what comes out can be computed with, encoded
and sent. Python's parser also accepts whole numbers of any size, which overflow in the first division, NaN and
infinity, and halves of surrogate pairs, which no text can be encoded with. A decode worker imports this file, and must
not import redis-py, so that is imported where it is needed.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger(__name__)

#: A value that stays unreadable is logged again after this time.
_LOG_EVERY_S: Final = 600.0

#: Keys remembered, so that garbage cannot fill the memory.
_MOST_KEYS: Final = 1000

#: Digits of a whole number, with its sign. It fits in 64 bits.
_LONGEST_NUMBER: Final = 18

#: Called with the kind of each unreadable value; a process that has metrics adds its own.
listeners: list[Callable[[str], None]] = []

#: How a server says that a script may not do what it tries.
_NO_RIGHTS: Final = ("ACL failure", "user executing the script")

#: What to do then.
_RENEW_RIGHTS: Final = (
    "Is this the right user for the process? Then renew its rights with `python -m stream.acl FOLDER` and ACL LOAD "
    "(docs/security.md)"
)

#: Beginnings of errors of the server's state for which redis-py has no class.
_STATES: Final = ("MISCONF", "NOREPLICAS", "BUSY ")

_logged: dict[tuple[str, str], float] = {}


def skip(kind: str, key: str, error: Exception) -> None:
    """Note that a value of this kind under this Redis key is skipped, and why.

    If Redis is full, or refuses it to its user, the value is not at fault and does not count.
    """
    if lacks_rights(error):
        if _is_due(kind, key):
            logger.warning("Redis refuses its user the %s: key=%s: %s", kind, key, with_remedy(error))
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
    from redis.exceptions import NoPermissionError, ResponseError

    return isinstance(error, NoPermissionError) or (
        isinstance(error, ResponseError) and any(text in str(error) for text in _NO_RIGHTS)
    )


def with_remedy(error: Exception) -> str:
    """The error for a log, with what to do if Redis refuses a command because of the rights of its user."""
    return f"{error}. {_RENEW_RIGHTS}" if lacks_rights(error) else str(error)


def _is_of_the_server(error: Exception) -> bool:
    """Whether the server would refuse the same for any value, for example because it is full."""
    from redis.exceptions import RedisError, ResponseError

    return isinstance(error, RedisError) and (type(error) is not ResponseError or str(error).startswith(_STATES))


def parse_json(raw: bytes | str) -> Any:  # noqa: ANN401 (whatever JSON can hold)
    """The value. Raises ValueError for what is no JSON, and for what no program of Sluice writes."""
    text = raw if isinstance(raw, str) else raw.decode()
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is no finite number")
    return value


_DECODER: Final = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)
