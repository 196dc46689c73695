"""Names the command and the keys in an error of a user that lacks rights.

The server's own message names no key, and for a script neither the script nor what it called.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from stream.keys import PREFIX
from stream.scripts import names
from stream.unreadable import lacks_rights

E = TypeVar("E", bound=RedisError)


def with_command(error: E, command: Sequence[Any]) -> E:
    """The error, with the command that it is about if the user lacks rights."""
    if not lacks_rights(error):
        return error
    name, *words = command
    if name == "EVALSHA":
        name = f"the script {names.get(words[0], words[0])}"
    keys = [word for word in words if isinstance(word, str) and word.startswith(PREFIX)]
    return type(error)(f"{error} ({name}{' on ' if keys else ''}{', '.join(keys)})")
