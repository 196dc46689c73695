"""The embedded server, run as `python -m stream` runs it, for the tests that need it and no other."""

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.host.private_folder import socket_path
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until


def client(data_dir: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_path(data_dir)), socket_timeout=5, retry=Retry(NoBackoff(), 0))


def answers(data_dir: Path) -> bool:
    try:
        return bool(client(data_dir).ping())
    except redis.ConnectionError:
        return False


def started(runs: Processes, data_dir: Path) -> Process:
    process = runs.start("stream", data_dir=data_dir)
    wait_until(lambda: answers(data_dir), "the embedded server answers")
    return process
