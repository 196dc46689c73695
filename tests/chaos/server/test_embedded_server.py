"""The faults of the server do what they are named for: a test of a fault that does not happen proves nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.chaos.server.embedded_server import COMPILER, FAKETIME, EmbeddedServer
from tests.support.waiting import wait_until


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path, fake_clock=FAKETIME is not None)
    server.start()
    try:
        yield server
    finally:
        server.kill_all()


def _client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket))


def _write_until_synced(server: EmbeddedServer, key: str) -> None:
    _client(server).set(key, "x" * 1000)
    length = server.aof.stat().st_size
    wait_until(lambda: server.synced(server.aof).length >= length, "the launcher has synced the file")


def test_a_power_failure_takes_what_was_not_synced(embedded: EmbeddedServer) -> None:
    """What was written before the last sync is there afterwards; what was written behind it is not."""
    _write_until_synced(embedded, "before")
    synced = embedded.synced(embedded.aof)
    _client(embedded).set("after", "y")
    embedded.kill_all()
    os.truncate(embedded.aof, synced.length)
    embedded.start()
    assert _client(embedded).exists("before") == 1
    assert _client(embedded).exists("after") == 0


def test_a_full_disk_refuses_writes_until_there_is_room(embedded: EmbeddedServer) -> None:
    embedded.limit_file(100)
    wait_until(lambda: not _accepts(embedded), "the server refuses writes")
    embedded.limit_file(None)
    wait_until(lambda: _accepts(embedded), "the server accepts writes again")


def _accepts(server: EmbeddedServer) -> bool:
    try:
        return bool(_client(server).set("key", "value" * 100))
    except redis.ResponseError:
        return False


def test_its_clock_can_be_set(embedded: EmbeddedServer) -> None:
    """Where libfaketime is installed; elsewhere `make chaos` says that it leaves these faults out."""
    before = int(_client(embedded).info("server")["server_time_usec"])
    if FAKETIME:
        embedded.set_clock("+600")
        wait_until(lambda: int(_client(embedded).info("server")["server_time_usec"]) > before + 599e6, "it is ahead")


@pytest.mark.skipif(not COMPILER, reason="needs a C compiler")
def test_a_server_that_syncs_each_write_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    """Its own syncs are recorded, so that a power failure can be done to it as well."""
    server = EmbeddedServer(tmp_path, durability="disk")
    server.start()
    try:
        for number in range(20):
            _client(server).set(f"key {number}", "x" * 1000)
        synced, length = server.synced(server.aof), server.aof.stat().st_size
        assert synced.length == length > 20_000
        server.kill_all()
        os.truncate(server.aof, synced.length)
        server.start()
        assert _client(server).dbsize() == 20
    finally:
        server.kill_all()
