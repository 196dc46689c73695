"""The Lua scripts of stream, and how a package loads its scripts."""

from importlib.resources import files
from typing import Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

#: The functions that scripts share, each in a file of its name, behind those that it uses itself.
_SHARED = ("wrong_type", "fields_of", "reply_of_group", "leave_group")

#: The names of the scripts that were loaded, by the hashes by which they are called.
names: Final[dict[str, str]] = {}


def load(redis: Redis, package: str, name: str) -> AsyncScript:
    """The script `<package>/<name>.lua`; it is called by its hash and sent only to a server that lacks it.

    The shared functions that it uses come after the first line, which has the flags of the script.
    """
    text = files(package).joinpath(f"{name}.lua").read_text()
    flags, _, rest = text.partition("\n")
    for one in reversed(_SHARED):
        if one in rest:
            rest = files(__name__).joinpath(f"{one}.lua").read_text() + rest
    script = redis.register_script(f"{flags}\n{rest}")
    names[script.sha] = f"{package}/{name}.lua"
    return script
