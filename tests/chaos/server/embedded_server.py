"""The embedded server as a user has it, with all that can happen to its process, its disk and its clock."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.host.private_folder import socket_path
from stream.settings import Durability
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until

#: Where Debian's package libfaketime puts the library that changes a process's clock.
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

#: Compiles the library that records the syncs of a server that syncs each write itself.
COMPILER = shutil.which("cc")


@dataclass(frozen=True, slots=True)
class Synced:
    """What of a file is on the disk for certain: its first `length` bytes, written before `at_s` (monotonic clock)."""

    length: int
    at_s: float


def _recorder(folder: Path) -> Path:
    """The library that records syncs, compiled into this folder."""
    library = folder / "recorded_syncs.so"
    source = Path(__file__).with_name("recorded_syncs.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class EmbeddedServer:
    """One `python -m stream` at a level of durability; its data stays between `kill` and `start`."""

    def __init__(self, folder: Path, *, durability: Durability = "process", fake_clock: bool = False) -> None:
        self.data_dir = folder / "data"
        self.socket = socket_path(self.data_dir)
        self.url = f"unix://{self.socket}"
        self._log = folder / "server.log"
        self.durability = durability
        self._synced = folder / "synced.log"
        self._clock = folder / "clock"
        self._clock.write_text("+0")
        self._environment = {
            **os.environ,
            "SLUICE_DATA_DIR": str(self.data_dir),
            "SLUICE_DURABILITY": durability,
            "SYNCED": str(self._synced),
        }
        if durability == "disk" and COMPILER:
            self._environment["PRELOAD"] = str(_recorder(folder))
        if fake_clock:
            assert FAKETIME, "clocks are changed by libfaketime: apt-get install faketime"
            self._environment |= {
                "PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self._launcher: Process | None = None
        self._pid = 0

    def start(self) -> None:
        assert self.starts(), f"the server does not start: {self._log.read_text()}"

    def starts(self) -> bool:
        """Start it; False if it refuses what its folder holds."""
        command = [sys.executable, "-m", "tests.chaos.server.recorded_server"]
        self._launcher = launcher = Process(command, {**self._environment, "PYTHONPATH": str(ROOT)}, self._log)
        wait_until(lambda: self.answers() or launcher.status is not None, f"the server answers, see {self._log}")
        if launcher.status is not None:
            return False
        with self._client() as client:
            self._pid = int(client.info("server")["process_id"])
        return True

    def answers(self) -> bool:
        with self._client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=Retry(NoBackoff(), 0))

    def kill(self) -> None:
        """The server's process dies; its launcher notices and ends."""
        assert self._launcher
        self.signal(signal.SIGKILL)
        self._launcher.wait()

    def kill_all(self) -> None:
        """Server and launcher die at once, as in a power failure."""
        if self._launcher:
            if self._launcher.status is None and self._pid:
                self.signal(signal.SIGKILL)
            self._launcher.kill()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    @property
    def aof(self) -> Path:
        """The append-only file that is written now: the newest of its parts."""
        return max((self.data_dir / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def synced(self, path: Path) -> Synced:
        """What the last completed sync of this file made durable."""
        lines = self._synced.read_text().splitlines() if self._synced.exists() else []
        own = [line.split() for line in lines if line.split()[0] == path.name]
        return Synced(int(own[-1][1]), float(own[-1][2])) if own else Synced(0, 0.0)

    def limit_file(self, further_bytes: int | None) -> None:
        """Let the append-only file grow by so many bytes and no more; None: without a limit."""
        _, most = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        limit = most if further_bytes is None else self.aof.stat().st_size + further_bytes
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (limit, most))

    def set_clock(self, reading: str) -> None:
        """libfaketime's notation: "+600" is ahead by ten minutes; a date and a time stand still."""
        self._clock.write_text(reading)
