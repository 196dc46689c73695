"""`sluice serve`: everything on one machine, from the model to a ready service."""

import argparse
import asyncio
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ingest.health import not_ready
from sluice.models import ExportFailed, Served, precision, prepare, versions_of
from sluice.supervisor import Program, Supervisor
from stream.cli import FAILED, complain, from_command_line, print_unknown_variables, sluice
from stream.embedded.run_file import RunFile, running_anywhere
from stream.host.cpu import usable_cores
from stream.host.private_folder import UnusableFolder, check_writable
from stream.host.text import counted
from stream.settings import RedisSettings
from stream.settings.variables import unknown_variables

#: How long a process may drain, in seconds: longer than `shutdown_grace_s`, within which each ends by itself.
STOP_S: Final = 25.0

#: How often readiness is asked for, in seconds.
_READY_INTERVAL_S: Final = 0.1

#: A first start may build a TensorRT engine. After this time a line says what is missing; the wait goes on.
_SLOW_START_S: Final = 60.0


#: What pydantic reads as true, in lower case.
_TRUE: Final = {"1", "true", "t", "yes", "y", "on"}


@dataclass(frozen=True, slots=True)
class Options:
    """`export` holds the arguments that `python -m export` gets, and `own` those of this command, but no defaults."""

    model: str
    own: tuple[str, ...]
    port: int
    consumers: int
    models_dir: Path
    watch: bool
    export: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 after Ctrl-C or SIGTERM, 2 if the service cannot run as asked."""
    options = _parse(argv)
    data_dir = Path(os.environ.get("SLUICE_DATA_DIR", f".sluice/{options.port}"))
    run_file = RunFile(data_dir / "serve.json")
    # Before the export, which may take minutes. The processes check the settings that they alone have.
    from_command_line(RedisSettings, "sluice serve", ["--data-dir", str(data_dir)])
    try:
        check_writable(data_dir)
    except UnusableFolder as error:
        return complain("sluice serve", str(error), FAILED)
    print_unknown_variables("sluice serve")
    if not _port_is_free(options.port):
        print(_port_taken(options.port, run_file), file=sys.stderr)
        return 2
    try:
        with _step("model") as report:
            typed = shlex.join([sluice(), "serve", *filter(None, [options.model]), *options.export, *options.own])
            served = prepare(options.model, options.export, options.models_dir, typed=typed)
            report.append(f"{served.name} {_version(options, served)} ({_about(options, served)})")
    except ExportFailed as failure:
        return failure.status
    except KeyboardInterrupt:
        print("\nstopped before the model was exported", file=sys.stderr)
        return 130
    if not _may_serve(options, served):
        return FAILED
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with run_file.held(port=options.port, model=served.name):
        return asyncio.run(_serve(options, served, data_dir))


def _parse(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="sluice serve",
        usage="sluice serve [MODEL] [--port N] [--consumers N] [--watch] [--labels FILE] [--preprocess HOW] ...",
        description="Export MODEL (a file, a folder or a network's name) if it has changed, then serve it. All other "
        "options are passed to the export; `sluice export --help` lists them. MODEL comes first. For the name of a "
        "model that is exported already, --version N is the one to serve. Settings of the "
        "processes are environment variables, such as SLUICE_API_KEYS_FILE; docs/settings.md lists them.",
        epilog="example: sluice serve flowers.keras --labels flowers.txt --preprocess unit",
    )
    parser.add_argument("--port", type=int, default=os.environ.get("SLUICE_PORT", "5000"), help="default: 5000")
    parser.add_argument("--consumers", type=_positive, default=1, help="consumer processes; default: 1")
    parser.add_argument(
        "--models-dir", type=Path, default=Path(os.environ.get("SLUICE_MODELS_DIR", "models")), help="default: models"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        default=os.environ.get("SLUICE_WATCH", "").lower() in _TRUE,
        help="change to a newer version in the models folder while serving",
    )
    # Which options of the export take a value is not known here, so MODEL is found by its place.
    model, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("", argv)
    given, export = parser.parse_known_args(rest)
    if export and not model:
        parser.error("MODEL comes first: sluice serve flowers.keras --labels flowers.txt")
    changed = [name for name in ("port", "consumers", "models_dir", "watch") if _differs(parser, given, name)]
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(given, name))) for name in changed]
    own = tuple(word for pair in pairs for word in pair if word != "True")  # `--watch` has no value.
    return Options(model, own, given.port, given.consumers, given.models_dir, given.watch, tuple(export))


def _differs(parser: argparse.ArgumentParser, given: argparse.Namespace, name: str) -> bool:
    return str(getattr(given, name)) != str(parser.get_default(name))  # That of the port is a text.


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} consumers cannot serve anything; give 1 or more")
    return number


def _port_is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _port_taken(port: int, run_file: RunFile) -> str:
    other, where = run_file.running(), ""
    for folder, run in running_anywhere().items():
        if other is None and run.port == port:
            other, where = run, f" with its data in {folder}"
    free = f"choose another port: make run PORT={port + 1}, or sluice serve --port {port + 1}"
    if other is None:
        return f"port {port} is in use by another program; {free}"
    return (
        f"port {port} is in use by an earlier run{where}, which serves {other.model} (process {other.pid}).\n"
        f"stop it with: kill {other.pid}\nor {free}"
    )


def _version(options: Options, served: Served) -> str:
    alone = served.pinned or len(versions_of(options.models_dir, served.name)) == 1
    return f"version {served.version}" if alone else f"version {served.version}, unless a release names another"


def _about(options: Options, served: Served) -> str:
    """The precision unless it is fp32, why this version is served, and which one if the provider skips it."""
    reduced = precision(options.models_dir, served.name, served.version)
    if not reduced or served.pinned:
        return f"{reduced}, {served.reason}" if reduced else served.reason
    versions = reversed(versions_of(options.models_dir, served.name))
    other = next((one for one in versions if precision(options.models_dir, served.name, one) != reduced), "")
    skips = f"; {'a CPU' if reduced == 'fp16' else 'a GPU'} serves version {other}" if other else ""
    return f"{reduced}, {served.reason}{skips}"


def _may_serve(options: Options, served: Served) -> bool:
    """Not with --watch if a higher version is there, which would be served; without, a line names it for a file."""
    versions = versions_of(options.models_dir, served.name)
    later = versions[versions.index(served.version) + 1 :]
    is_file = bool(options.model) and Path(options.model).exists()
    if not later or not (options.watch or is_file):
        return True
    folder = options.models_dir / served.name
    precisions = {one: precision(options.models_dir, served.name, one) for one in later}
    named = ", ".join(f"{one} ({reduced})" if reduced else one for one, reduced in precisions.items())
    newest = shlex.join([sluice(), "serve", served.name, *options.own])
    if not options.watch:
        _say(f"{folder} also holds version {named}, not served here. To serve the newest: {newest}")
        return True
    complain(
        "sluice serve",
        f"{folder} holds version {named}, but {options.model} is version {served.version}, and with --watch consumers "
        f"serve the newest.\nTo serve the newest:  {newest}\nTo serve version {served.version}:  leave --watch out, "
        f"or remove {', '.join(str(folder / one) for one in later)}",
        FAILED,
    )
    return False


async def _serve(options: Options, served: Served, data_dir: Path) -> int:
    environment = _environment(options, served, data_dir)
    supervisor = Supervisor(_programs(options, environment), environment, _say)
    readiness = asyncio.create_task(_report_ready(options, _queue_of(environment)))
    status = await supervisor.run()
    readiness.cancel()
    if status == 0:
        _say("stopped")
    return status


def _queue_of(environment: Mapping[str, str]) -> str:
    """Where the queue is, without the password in a URL."""
    url = urlsplit(environment.get("SLUICE_REDIS_URL", ""))
    server = url.netloc.rpartition("@")[2] or url.path
    return f"queue in Redis at {server}" if server else "queue"


def _programs(options: Options, environment: Mapping[str, str]) -> list[Program]:
    """In the order of their start; the last one stops first, so that accepted images are still answered."""
    queue = [] if environment.get("SLUICE_REDIS_URL") else [_python("queue", "stream")]
    consumers = [_consumer(number, environment.get("SLUICE_METRICS_PORT", "")) for number in range(options.consumers)]
    senders = [_python("webhooks", "ingest.webhooks")] if _webhooks_are_on(environment) else []
    return [*queue, *senders, *consumers, _python("ingest", "ingest")]


def _webhooks_are_on(environment: Mapping[str, str]) -> bool:
    return environment.get("SLUICE_WEBHOOKS", "").lower() in _TRUE


def _consumer(number: int, metrics_port: str) -> Program:
    """The first consumer has `metrics_port`, if it is set, and each further one the port after it."""
    first = int(metrics_port) if metrics_port.isdecimal() else 0  # What is no number, the consumer refuses.
    port = (f"--metrics-port={first + number}",) if first else ()
    return _python(f"consumer-{number + 1}", "consumers", *port)


#: What the programs import. The workers of ingest import the application when they start.
_MODULES: Final = {"ingest": ("ingest.__main__", "ingest.app"), "ingest.webhooks": ("ingest.webhooks.__main__",)}


def _python(name: str, module: str, *arguments: str) -> Program:
    modules = _MODULES.get(module, (f"{module}.__main__",))
    return Program(name, (sys.executable, "-m", module, *arguments), stop_s=STOP_S, modules=modules)


def _environment(options: Options, served: Served, data_dir: Path) -> dict[str, str]:
    """The settings of all processes; what the user has set wins. The consumers share the cores and the GPUs."""
    unknown = unknown_variables(os.environ)
    threads = max(1, usable_cores() // options.consumers)
    return {
        "SLUICE_LOG_LEVEL": "warning",
        "SLUICE_INFERENCE_THREADS": str(threads),
        # The consumers still spread over the GPUs: each GPU gets one before any gets a second.
        "SLUICE_CONSUMERS_PER_GPU": str(options.consumers),
        # Of variables without effect, no process needs to warn again.
        **{name: value for name, value in os.environ.items() if name not in {"SLUICE_PROGRAM", *unknown}},
        "SLUICE_DATA_DIR": str(data_dir),
        "SLUICE_MODELS_DIR": str(options.models_dir),
        "SLUICE_PORT": str(options.port),
        "SLUICE_MODEL": served.name,
        "SLUICE_WATCH": str(options.watch).lower(),
        **({"SLUICE_VERSION": served.version} if served.pinned and not options.watch else {}),
    }


async def _report_ready(options: Options, queue: str) -> None:
    started = time.monotonic()
    slow = False
    while why := await asyncio.to_thread(not_ready, options.url):
        if not slow and time.monotonic() - started > _SLOW_START_S:
            slow = True
            _say(f"not ready after {_SLOW_START_S:g} s, still waiting: {why}")
        await asyncio.sleep(_READY_INTERVAL_S)
    consumers, took_s = counted(options.consumers, "consumer"), time.monotonic() - started
    _say(f"{'service':10}{queue}, {consumers} and HTTP server started   {took_s:.1f} s")
    if (grpc_port := os.environ.get("SLUICE_GRPC_PORT", "0")) != "0":
        _say(f"{'gRPC':10}port {grpc_port}")
    if _webhooks_are_on(os.environ):
        _say(f"{'webhooks':10}on")
    _say(f"ready: {options.url}   (Ctrl-C stops it)")


@contextmanager
def _step(name: str) -> Iterator[list[str]]:
    """Time a step and print one line for it: its name, what the step appended, its duration."""
    started = time.monotonic()
    report: list[str] = []
    yield report
    _say(f"{name:10}{' '.join(report)}   {time.monotonic() - started:.1f} s")


def _say(line: str) -> None:
    print(line, flush=True)
