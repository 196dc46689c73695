"""A stream full of images, worked off: by a consumer of Sluice, or by a bare redis-py loop over the same bytes.

Both in a process of their own against the embedded server; the rate is read from the stream's length between its
first tenth and its last, so that no start-up is in it.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from bench.measure.processes import Processes
from stream.entry import Entry
from stream.host.private_folder import socket_path
from stream.keys import GROUP, Partition

_SIZE = 224
_COUNT = 32

#: Entries in the full stream: 600 MB, since a bare loop takes more than ten thousand a second.
ENTRIES = 4000

#: TensorRT builds its engines first, which takes minutes.
_PATIENCE_S = 900.0


@contextmanager
def server(folder: Path) -> Iterator[Redis]:
    """The embedded server as `python -m stream` runs it, with a client."""
    processes = Processes(folder / "stream.log")
    processes.start([sys.executable, "-m", "stream", "--data-dir", str(folder / "data")], {})
    client = Redis(unix_socket_path=str(socket_path(folder / "data")))
    try:
        _until(lambda: _answers(client), "the server answers")
        yield client
    finally:
        client.close()
        processes.stop()


def rate_of_consumer(
    redis: Redis, folder: Path, models_dir: Path, *, model: str, version: str, provider: str, entries: int = ENTRIES
) -> float:
    """Entries per second that `python -m consumers` completes."""
    options = ["--models-dir", str(models_dir), "--model", model, "--version", version, "--provider", provider]
    command = [sys.executable, "-m", "consumers", *options, "--data-dir", str(folder / "data")]
    return _rate(redis, Partition(model), command, folder, entries)


def rate_of_bare_loop(redis: Redis, folder: Path) -> float:
    """Entries per second that a synchronous redis-py loop reads, joins and acknowledges."""
    command = [sys.executable, "-m", "bench.measure.full_stream", str(socket_path(folder / "data"))]
    return _rate(redis, Partition("bare"), command, folder, ENTRIES)


def _rate(redis: Redis, partition: Partition, command: list[str], folder: Path, entries: int) -> float:
    fill(redis, partition, entries)
    processes = Processes(folder / "worker.log")
    processes.start(command, {})
    try:
        return _watch(redis, partition, processes)
    finally:
        processes.stop()
        redis.delete(partition.entries)


def fill(redis: Redis, partition: Partition, count: int) -> None:
    """Entries as ingest writes them; returns when the server has nothing left to do for them."""
    _shorten(redis)
    pixels = np.random.default_rng(1).integers(0, 256, (_SIZE, _SIZE, 3), np.uint8).tobytes()
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        entry = Entry(uuid.uuid4().hex, "bench", 5, _SIZE, _SIZE, pixels)
        flat = ["due", 0, *entry.fields()]
        pipe.set(partition.pixels(entry.id), entry.pixel_value, px=600_000)
        pipe.xadd(partition.entries, dict(zip(flat[::2], flat[1::2], strict=True)))
        pipe.set(partition.request(entry.id), "queued", px=600_000)
        if number % 32 == 31:
            pipe.execute()
    pipe.execute()
    for stream in partition.streams():
        redis.xgroup_create(stream.key, GROUP, id="0", mkstream=True)


def _shorten(redis: Redis) -> None:
    """Rewrite the append-only file now. It would be rewritten anyway as it grows, in a process of its own on the same
    cores, and of two that take turns always while the same one is measured."""
    redis.bgrewriteaof()
    _until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "the append-only file is rewritten")


def _watch(redis: Redis, partition: Partition, processes: Processes) -> float:
    total = redis.xlen(partition.entries)
    began: tuple[float, int] | None = None
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert processes.running, processes.log.read_text()[-2000:]
        now, left = time.perf_counter(), redis.xlen(partition.entries)
        if began is None and left <= total * 0.9:
            began = (now, left)
        if began is not None and left <= total * 0.1:
            return (began[1] - left) / (now - began[0])
        time.sleep(0.002)
    raise RuntimeError(f"{left} of {total} entries are left after {_PATIENCE_S} s")


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {_PATIENCE_S} s: {what}"
        time.sleep(0.05)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except (RedisConnectionError, BusyLoadingError):
        return False


def bare_loop(redis: Redis, partition: Partition) -> None:
    """Read up to 32 and their pixels, join these into one buffer, acknowledge and delete; for ever."""
    batch = np.zeros((_COUNT, _SIZE * _SIZE * 3), np.uint8)
    while True:
        reply: Any = redis.xreadgroup(GROUP, "bare", {partition.entries: ">"}, count=_COUNT, block=1000)
        for _, entries in reply or ():
            keys = [partition.pixels(fields[b"id"].decode()) for _, fields in entries]
            values: Any = redis.mget(keys)
            for row, pixels in zip(batch, values, strict=False):
                row[:] = np.frombuffer(pixels, np.uint8)
            ids = [entry_id for entry_id, _ in entries]
            pipe = redis.pipeline(transaction=False)
            pipe.xack(partition.entries, GROUP, *ids)
            pipe.xdel(partition.entries, *ids)
            pipe.unlink(*keys)
            pipe.execute()


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m bench.measure.full_stream")
    parser.add_argument("socket")
    bare_loop(Redis(unix_socket_path=parser.parse_args().socket, protocol=2), Partition("bare"))
