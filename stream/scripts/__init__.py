"""The Lua scripts of stream, and how a package loads its scripts."""

from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


def load(redis: Redis, package: str, name: str) -> AsyncScript:
    """The script `<package>/<name>.lua`; it is called by its hash and sent only to a server that lacks it."""
    return redis.register_script(files(package).joinpath(f"{name}.lua").read_text())
