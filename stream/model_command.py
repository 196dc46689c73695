"""Commands that look at one model from outside: their common options, connection and errors.

Such a command has its own options, and those settings that say where Redis is. All other settings come from the
environment.
"""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.cli import (
    FAILED,
    NOT_FOUND,
    complain,
    described,
    from_command_line,
    print_unknown_variables,
    sluice,
    start_consumer,
    value_name,
)
from stream.connection.clients import Connections
from stream.embedded.run_file import Running, running_folders, running_in
from stream.host.private_folder import UnusableFolder, check_private, socket_path
from stream.keys import Partition
from stream.presence import partition_counts
from stream.settings import QueueSettings
from stream.unreadable import lacks_rights

#: Settings that are options of every such command.
_CONNECTION = ("redis_url", "redis_password_file", "redis_ca_file", "data_dir", "redis_timeout_s")

#: Either says where Redis is.
_SERVER_VARIABLES = {"SLUICE_REDIS_URL", "SLUICE_DATA_DIR"}


class NoSuchModel(Exception):
    """No consumer has announced the model; `known` are those that were announced."""

    def __init__(self, model: str, known: Iterable[str]) -> None:
        self.known = tuple(known)
        wanted = f"the model {model!r}" if model else "a model"
        super().__init__(f"no consumer has announced {wanted}; known here: {', '.join(self.known) or 'none'}")


class SeveralModels(Exception):
    """There are several models, and the command names none."""


def options(about_model: str = "") -> argparse.ArgumentParser:
    """The options that such commands share, as a parent for their parsers; one names the model, if it is described."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    # Not the description of the setting, which is about ingest and consumers.
    if about_model:
        parser.add_argument("--model", metavar="NAME", help=about_model)
    for name in _CONNECTION:
        field = QueueSettings.model_fields[name]
        parser.add_argument(_option(name), metavar=value_name(name, field), help=described(field))
    return parser


def settings(program: str, given: argparse.Namespace, *, served: bool = False) -> QueueSettings:
    """The settings from these options and the environment; exits with status 2 if one is wrong.

    If neither says where Redis is, the server is that of the `sluice serve` which runs in this folder. `served`: if no
    model is named, it is the one of that run. Its data may also name others, which it served before.
    """
    values = {name: getattr(given, name) for name in ("model", *_CONNECTION)}
    runs: dict[Path, Running] = {}
    if values["redis_url"] is values["data_dir"] is None and not _SERVER_VARIABLES & os.environ.keys():
        runs = _running_server(program)
    elif values["data_dir"] and (named := running_in(Path(values["data_dir"]))):
        runs = {Path(values["data_dir"]): named}
    for folder, run in runs.items():
        values |= {"data_dir": str(folder), "model": values["model"] or (run.model if served else None)}
    arguments = [f"{_option(name)}={value}" for name, value in values.items() if value is not None]
    found = from_command_line(QueueSettings, program, arguments)
    print_unknown_variables(program)
    return found


def _running_server(program: str) -> dict[Path, Running]:
    """The data folder of the run in this folder, if there is one; exits with status 2 if there are several."""
    runs = running_folders()
    if len(runs) > 1:
        listed = ", ".join(f"{folder} ({run.model})" for folder, run in runs.items())
        raise SystemExit(complain(program, f"several services run here: {listed}. Choose one with --data-dir.", FAILED))
    return runs


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


async def choose(connections: Connections, model: str) -> list[Partition]:
    """All partitions of this model; an empty name means the only one. Raises NoSuchModel or SeveralModels."""
    found = await choose_all(connections, model)
    if len(models := {one.model: None for one in found}) > 1:
        raise SeveralModels(f"there are several models, name one with --model: {', '.join(models)}")
    return found


async def choose_all(connections: Connections, model: str) -> list[Partition]:
    """All partitions of this model; an empty name means all models. Raises NoSuchModel."""
    known = await partition_counts(connections.shared)
    if not known or (model and model not in known):
        raise NoSuchModel(model, known)
    return [Partition(name, number) for name in ([model] if model else known) for number in range(known[name])]


def run(program: str, settings: QueueSettings, work: Callable[[Connections], Awaitable[int]]) -> int:
    """Connect, do the work and return its exit status; an error becomes one line and a status."""

    async def connected() -> int:
        try:
            connections = Connections(settings)
        except (ValueError, OSError) as error:  # The socket's folder cannot be used.
            return complain(program, str(error), FAILED)
        async with connections:
            return await work(connections)

    try:
        return asyncio.run(connected())
    except NoSuchModel as error:
        return complain(program, explain(error, settings), NOT_FOUND)
    except RedisConnectionError as error:
        return complain(program, explain(error, settings) if settings.redis_url else _nothing_runs(settings), FAILED)
    except (SeveralModels, RedisError) as error:
        return complain(program, explain(error, settings), FAILED)


def _nothing_runs(settings: QueueSettings) -> str:
    if run := running_in(settings.data_dir):
        return (
            f"the service on port {run.port} has no server in {settings.data_dir}. If it was started with "
            "SLUICE_REDIS_URL, set that here, too. Otherwise its server is starting, or ended: its log says why"
        )
    folders = sorted(settings.data_dir.glob("*/"))
    for folder in folders:
        try:
            check_private(folder)
        except UnusableFolder as error:
            return str(error)
    servers = [str(folder) for folder in folders if socket_path(folder).exists()]
    if servers:
        listed = ", ".join(servers)
        return f"no server runs in {settings.data_dir}. Others may run in: {listed}. Choose one with --data-dir"
    return (
        f"no service runs in this folder (its server would be in {settings.data_dir}). "
        f"Start one with: {sluice()} serve. For a service elsewhere, give its --redis-url or --data-dir"
    )


def explain(error: Exception, settings: QueueSettings) -> str:
    """An error in words for the operator, with what to do."""
    if isinstance(error, NoSuchModel) and not error.known:
        start = start_consumer(settings, settings.model or "NAME")
        return f"{error}. Start one with: {start}"
    if isinstance(error, OutOfMemoryError):
        return (
            "Redis is out of memory and refuses new data; what it refused is unchanged. "
            "Raise its maxmemory, or let consumers drain the backlog"
        )
    if isinstance(error, AuthenticationError):
        why = str(error).rstrip(".")
        return (
            f"Redis refuses the user or its password: {why}. Name the user in the URL, as in redis://USER@HOST:PORT, "
            "and the file of its password with --redis-password-file"
        )
    if lacks_rights(error):
        return (
            "Redis refuses this to its user. Use one with the rights, such as admin of `python -m stream.acl`, with "
            f"--redis-url and --redis-password-file. Redis said: {error}"
        )
    return f"Redis: {error}" if isinstance(error, RedisError) else str(error)
