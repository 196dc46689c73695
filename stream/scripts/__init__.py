"""The Lua scripts of stream, and how a package loads its scripts."""

from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

#: The function that scripts share.
_SHARED = "wrong_type"


def load(redis: Redis, package: str, name: str) -> AsyncScript:
    """The script `<package>/<name>.lua`; it is called by its hash and sent only to a server that lacks it.

    The function that scripts share comes after the first line, which has the flags of the script.
    """
    text = files(package).joinpath(f"{name}.lua").read_text()
    if _SHARED in text:
        flags, _, rest = text.partition("\n")
        text = f"{flags}\n{files(__name__).joinpath(f'{_SHARED}.lua').read_text()}{rest}"
    return redis.register_script(text)
