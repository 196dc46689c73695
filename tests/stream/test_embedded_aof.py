"""The embedded server's append-only file is rewritten when it is due, and what it holds stays."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from stream.embedded.aof import is_due, keep_short
from tests.support.processes import Processes
from tests.support.redis.embedded import client, started
from tests.support.waiting import wait_until

MB = 2**20


@contextmanager
def running(runs: Processes, data_dir: Path) -> Iterator[redis.Redis]:
    """A client of an embedded server, which ends afterwards."""
    process = started(runs, data_dir)
    with client(data_dir) as embedded:
        yield embedded
    assert process.stop() == 0


@contextmanager
def kept_short(embedded: redis.Redis, data_dir: Path) -> Iterator[threading.Thread]:
    """From one megabyte on, looking all the time."""
    ended = threading.Event()
    keeper = threading.Thread(
        target=keep_short, args=(embedded, data_dir, ended), kwargs={"from_bytes": MB, "every_s": 0.001}
    )
    keeper.start()
    yield keeper
    ended.set()
    keeper.join()


def size(embedded: redis.Redis) -> int:
    return int(embedded.info("persistence")["aof_current_size"])


def test_a_long_file_is_rewritten(runs: Processes, data_dir: Path) -> None:
    """What was overwritten is gone from it; the rest is there, also for the next run, which has only the file."""
    with running(runs, data_dir) as embedded:
        for number in range(30):
            embedded.set("image", bytes([number]) * 100_000)
        embedded.set("kept", "yes")
        wait_until(lambda: size(embedded) > 3_000_000, "all is written, and the server itself leaves it alone")
        with kept_short(embedded, data_dir):
            wait_until(lambda: size(embedded) < 200_000, "the file is rewritten")
            embedded.set("later", "yes")
    with running(runs, data_dir) as embedded:
        assert embedded.mget("image", "kept", "later") == [bytes([29]) * 100_000, b"yes", b"yes"]


def test_a_file_that_is_still_in_use_stays(runs: Processes, data_dir: Path, tmp_path: Path) -> None:
    """As where the rewrite failed: it has its name, and is not cut off."""
    used = tmp_path / "appendonlydir" / "1.incr.aof"
    used.parent.mkdir()
    used.write_bytes(bytes(100))
    with running(runs, data_dir) as embedded:
        embedded.set("image", bytes(2 * MB))
        wait_until(lambda: size(embedded) > 2 * MB, "it is written")
        embedded.delete("image")
        with kept_short(embedded, tmp_path):
            wait_until(lambda: size(embedded) < MB, "the server has rewritten its own")
    assert used.stat().st_size == 100


def test_a_server_that_is_away_is_waited_for(data_dir: Path, tmp_path: Path) -> None:
    """It begins after the keeper, and may be gone before."""
    nobody = redis.Redis(unix_socket_path=str(tmp_path / "nobody.sock"))
    with kept_short(nobody, data_dir) as keeper:
        keeper.join(0.05)
        assert keeper.is_alive()


@pytest.mark.parametrize(
    ("size_mb", "base_mb", "rewriting", "due"),
    [(0, 0, 0, False), (9, 0, 0, False), (10, 0, 0, True), (10, 6, 0, False), (12, 6, 0, True), (12, 6, 1, False)],
)
def test_it_is_due_when_long_and_twice_what_it_would_be(size_mb: int, base_mb: int, rewriting: int, due: bool) -> None:
    """A long queue is no reason to write it again and again."""
    told = {"aof_current_size": size_mb * MB, "aof_base_size": base_mb * MB, "aof_rewrite_in_progress": rewriting}
    assert is_due(told, 10 * MB) is due
