"""The file that a run of `sluice serve` keeps in its data folder while it lasts.

The next run on the same port can name it, and commands such as `python -m consumers status` find its server.

{"pid": 4711, "port": 5000, "model": "resnet50"}

A second file names the first one for commands in other folders: ~/.local/state/sluice/4711 holds its path.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stream.host.private_folder import socket_path
from stream.settings import RedisSettings


@dataclass(frozen=True, slots=True)
class Running:
    """Another run that is alive."""

    pid: int
    model: str
    port: int


def running_in(folder: Path) -> Running | None:
    """The run that keeps its data in this folder, if it is alive."""
    return RunFile(folder / "serve.json").running()


def running_folders() -> dict[Path, Running]:
    """The data folders of all runs that are alive, where `sluice serve` in this folder keeps them."""
    found = {path.parent: running_in(path.parent) for path in sorted(Path(".sluice").glob("*/serve.json"))}
    return {folder: running for folder, running in found.items() if running is not None}


def missed_service(settings: RedisSettings) -> Path | None:
    """The folder of the only service that runs here, if these settings have neither a server nor a service."""
    if settings.redis_url or socket_path(settings.data_dir).exists() or running_in(settings.data_dir):
        return None
    found = [folder for folder in running_folders() if socket_path(folder).exists()]
    return found[0] if len(found) == 1 else None


def running_anywhere() -> dict[Path, Running]:
    """The data folders of all runs of this user that are alive. Forgets those that have ended."""
    found = {}
    for entry in sorted(_runs_of_user().glob("[0-9]*")):
        with suppress(OSError, UnicodeDecodeError):
            path = Path(entry.read_text())
            running = RunFile(path).running()
            if running is not None and str(running.pid) == entry.name:
                found[path.parent] = running
            else:
                entry.unlink()
    return found


def _runs_of_user() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state else Path.home() / ".local/state") / "sluice"


@contextmanager
def _listed(path: Path) -> Iterator[None]:
    """List the run for commands in other folders. A home that cannot be written does not stop a service."""
    entry = _runs_of_user() / str(os.getpid())
    with suppress(OSError):
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry.write_text(str(path.absolute()))
    try:
        yield
    finally:
        with suppress(OSError):
            entry.unlink(missing_ok=True)


class RunFile:
    """The file of one port's run, in the data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def running(self) -> Running | None:
        """The run that holds the file, unless its process has ended or the file says nothing readable."""
        try:
            content = json.loads(self._path.read_text())
            other = Running(int(content["pid"]), str(content["model"]), int(content["port"]))
            os.kill(other.pid, 0)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return other

    @contextmanager
    def held(self, *, port: int, model: str) -> Iterator[None]:
        """Write the file, and remove it at the end of the run."""
        self._path.write_text(json.dumps({"pid": os.getpid(), "port": port, "model": model}) + "\n")
        try:
            with _listed(self._path):
                yield
        finally:
            self._path.unlink(missing_ok=True)
