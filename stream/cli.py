"""The console: options, connection and errors of a command that looks at one model from outside.

Knows no command. Such a command has options of its own, and of the settings only those by which it finds Redis;
the environment gives the others.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from redis.exceptions import OutOfMemoryError, RedisError

from stream.connection.clients import Connections
from stream.keys import Partition
from stream.presence import partition_counts
from stream.settings import Settings, from_command_line

#: Exit statuses, the same for all such commands.
OK, NOT_FOUND, FAILED = 0, 1, 2

#: Settings that are options of every such command.
_CONNECTION = ("redis_url", "data_dir", "redis_timeout_s")


class NoSuchModel(Exception):
    """No consumer has announced the model that was asked for."""


class SeveralModels(Exception):
    """There are several models, and none was named."""


def options() -> argparse.ArgumentParser:
    """The options that such commands share, to be given to their parsers as a parent."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    # Not the description of the setting, which speaks of ingest and consumers.
    parser.add_argument("--model", metavar="NAME", help="which model; may be left out where there is only one")
    for name in _CONNECTION:
        about = Settings.model_fields[name].description
        assert about, name
        parser.add_argument(_option(name), metavar="VALUE", help=about.replace("%", "%%"))
    return parser


def settings(program: str, given: argparse.Namespace) -> Settings:
    """The settings from these options and the environment; exits with status 2 where one is wrong."""
    values = {name: getattr(given, name) for name in ("model", *_CONNECTION)}
    return from_command_line(
        program, [f"{_option(name)}={value}" for name, value in values.items() if value is not None]
    )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


async def choose(connections: Connections, model: str) -> list[Partition]:
    """All partitions of this model, or with an empty name of the only one; raises NoSuchModel or SeveralModels."""
    known = await partition_counts(connections.shared)
    if not model and len(known) == 1:
        (model,) = known
    if model in known:
        return [Partition(model, number) for number in range(known[model])]
    if model or not known:
        wanted = f"the model {model!r}" if model else "a model"
        raise NoSuchModel(f"no consumer has announced {wanted}; known here: {', '.join(known) or 'none'}")
    raise SeveralModels(f"there are several models, name one with --model: {', '.join(known)}")


def run(program: str, settings: Settings, work: Callable[[Connections], Awaitable[int]]) -> int:
    """Connect, do the work and return its exit status; what goes wrong becomes one line and a status."""

    async def connected() -> int:
        try:
            connections = Connections(settings)
        except ValueError as error:  # a URL that cannot be read
            return _fail(program, str(error), FAILED)
        async with connections:
            return await work(connections)

    try:
        return asyncio.run(connected())
    except NoSuchModel as error:
        return _fail(program, str(error), NOT_FOUND)
    except (SeveralModels, RedisError) as error:
        return _fail(program, explain(error), FAILED)


def explain(error: Exception) -> str:
    """An error in words for the operator."""
    if isinstance(error, OutOfMemoryError):
        return (
            "Redis is out of memory and takes nothing; what it had not taken is unchanged. "
            "Raise its maxmemory, or let consumers work off the backlog"
        )
    return f"Redis: {error}" if isinstance(error, RedisError) else str(error)


def _fail(program: str, message: str, status: int) -> int:
    sys.stderr.write(f"{program}: {message}\n")
    return status
