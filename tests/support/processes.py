"""Sluice's own processes for the tests, started as a user starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from tests.support.redis.servers import Server, free_port
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parent.parent.parent

#: Logs are read while they are written. Byte code is kept, also where it is not usually: hundreds of starts share it.
_PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="processes are seen in /proc (Linux)")


class Process:
    """One process with its log."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self._popen = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=stream, stderr=stream)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def resident_bytes(self) -> int:
        """Bytes of it that lie in memory; on Linux."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    @property
    def total_bytes(self) -> int:
        """Bytes of memory of it and of all processes below it, shared pages counted once; on Linux."""
        return sum(map(_proportional_bytes, _family(str(self.pid))))

    @property
    def workers(self) -> list[int]:
        """The processes below it, without multiprocessing's own; on Linux."""
        below = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(one) for one in below if b"spawn_main" in _command_of(one)]

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    def ready(self) -> Self:
        """This consumer, once it takes work."""
        wait_until(lambda: self.says("ready consumer="), "the consumer is ready")
        return self

    def says(self, text: str) -> bool:
        assert self.status is None or text in self.text, f"ended with {self.status}: {self.text}"
        return text in self.text

    @property
    def text(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit status, once it has ended."""
        return self._popen.wait(timeout_s)

    def stop(self, *, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit status."""
        self._popen.terminate()
        return self._popen.wait(timeout_s)


def _family(pid: str) -> list[str]:
    """This process and all below it."""
    try:
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []  # It has just ended.
    return [pid, *(one for child in children for one in _family(child))]


def _proportional_bytes(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # It has just ended.


class Processes:
    """Starts processes on one server, and kills what is left at the end."""

    def __init__(self, folder: Path, *, redis_url: str, models_dir: Path) -> None:
        self._folder = folder
        self._settings = {
            "SLUICE_REDIS_URL": redis_url,
            "SLUICE_MODELS_DIR": str(models_dir),
            "SLUICE_INFERENCE_THREADS": "1",
            "SLUICE_WORKERS": "1",
            # On a machine with a GPU consumers would else wait for each other.
            "SLUICE_CONSUMERS_PER_GPU": "8",
        }
        self._started: list[Process] = []
        self._consumers: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()

    def stop_all(self) -> None:
        """SIGTERM to all that still run, for those that have processes of their own to end."""
        for process in self._started:
            if process.status is None:
                process.stop()

    def share(self, **variables: str) -> None:
        """Give these variables to all that are started from here on."""
        self._settings.update(variables)

    def start(self, module: str, *, rogue: str = "", arguments: Sequence[str] = (), **settings: Any) -> Process:
        """`python -m module` with these arguments, and these settings as SLUICE_ variables."""
        own = {f"SLUICE_{name.upper()}": str(value) for name, value in settings.items()}
        environment = {**os.environ, **_PYTHON, "ROGUE": rogue, **self._settings, **own}
        log = self._folder / f"{module.replace('.', '-')}-{len(self._started)}.log"
        process = Process([sys.executable, "-m", module, *arguments], environment, log)
        self._started.append(process)
        return process

    def consumer(self, *, rogue: str = "", **settings: Any) -> Process:
        """A consumer, or one that misbehaves (programs/rogue_consumer.py); returns at once, for `ingest` waits for it.

        Where none follows, or one of several workers, of which each has to hear of it, its `ready` waits.
        """
        process = self.start("tests.support.programs.rogue_consumer" if rogue else "consumers", rogue=rogue, **settings)
        self._consumers.append(process)
        return process

    def ingest(self, *, ready: bool = True, **settings: Any) -> tuple[Process, str]:
        """An ingest and its base URL; returns when it and all consumers are ready, or it is merely alive."""
        port = free_port()
        if len(self._consumers) > 1:
            # Ready is who knows one of them: from its first look on it knows them all.
            self._wait_for_consumers()
        process = self.start("ingest", port=port, **settings)
        url = f"http://127.0.0.1:{port}"
        if ready:
            self._wait_for_consumers()
        wait_until(lambda: _answers(process, url, "/readyz" if ready else "/healthz"), f"ingest answers at {url}")
        return process, url

    def _wait_for_consumers(self) -> None:
        for consumer in self._consumers:
            consumer.ready()


def _answers(process: Process, url: str, path: str) -> bool:
    assert process.status is None, process.text
    try:
        return httpx.get(url + path, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def on_own_server(folder: Path, models_dir: Path) -> Iterator[Processes]:
    """Processes on a server that is theirs alone, and ends after them."""
    server = Server(folder)
    server.start()
    try:
        with Processes(folder, redis_url=server.url, models_dir=models_dir) as processes:
            yield processes
    finally:
        server.kill()
