"""The servers of a simulation, as processes: one, or a Cluster's primaries. Knows of partitions only where they lie."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from redis.crc import key_slot

from stream.embedded.aof import REWRITE_FROM_BYTES
from stream.keys import Partition
from tests.support.redis.clusters import BOUNDS, Cluster
from tests.support.redis.servers import Server

#: Primaries of a Cluster.
PRIMARIES = len(BOUNDS) - 1

#: As of the embedded server: each image passes through the append-only file, which is flushed every second.
_DURABLE = {"appendonly": "yes", "auto-aof-rewrite-min-size": str(REWRITE_FROM_BYTES)}

#: Redis's own default: a server that waits for a core must not count as failed.
_NODE_TIMEOUT_MS = 15_000


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are: `redis_url` of all together, the port of each."""

    redis_url: str
    ports: tuple[int, ...]


@contextmanager
def started(folder: Path, primaries: int = 1, *, durable: bool = True) -> Iterator[Servers]:
    """One server, or a Cluster of three primaries without replicas, until the end of the block."""
    assert primaries in {1, PRIMARIES}
    options = dict(_DURABLE) if durable else {}
    with _cluster(folder, options) if primaries > 1 else _server(folder, options) as servers:
        yield servers


@contextmanager
def _server(folder: Path, options: dict[str, str]) -> Iterator[Servers]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, options=options)
    server.start()
    try:
        yield Servers(server.url, (server.port,))
    finally:
        server.kill()


@contextmanager
def _cluster(folder: Path, options: dict[str, str]) -> Iterator[Servers]:
    options |= {"cluster-node-timeout": str(_NODE_TIMEOUT_MS)}
    cluster = Cluster(folder, replicated=False, options=options)
    try:
        cluster.start()
        yield Servers(cluster.url, tuple(node.port for node in cluster.nodes))
    finally:
        cluster.end()


def partitions(number: int) -> list[Partition]:
    """So many partitions of a model, whose name has them lie on the primaries of a Cluster as evenly as they can."""
    models = ([Partition(f"simulated-{name}", one) for one in range(number)] for name in count())
    return next(found for found in models if _are_even(found))


def _are_even(found: list[Partition]) -> bool:
    held = [sum(primary(one) == number for one in found) for number in range(PRIMARIES)]
    return max(held) - min(held) <= 1


def primary(partition: Partition) -> int:
    """Which of a Cluster's primaries has it."""
    return bisect_right(BOUNDS, key_slot(partition.entries.encode())) - 1
