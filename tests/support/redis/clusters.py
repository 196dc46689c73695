"""A Cluster and a primary under Sentinels, each of real servers as processes on this machine."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

#: Hash slots of a Cluster, as its specification has it.
SLOTS = 16_384

#: The first slot of each primary in the beginning, and the end.
BOUNDS = [round(SLOTS * number / 3) for number in range(4)]

#: Milliseconds until a node that is silent counts as failing: short, for tests.
_NODE_TIMEOUT_MS = 1000

#: Longest time, in seconds, until nodes agree: usually two, but they gossip late where the machine is busy.
_FORMS_S = 120

_NONE: Mapping[str, str] = MappingProxyType({})

#: Connections over which slots are moved: with one for each of a hundred they would be no faster.
_AT_ONCE = 20


class Node(Server):
    """One server, and a client for what tests ask of it."""

    def __init__(self, folder: Path, *, password: str = "", **options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"requirepass": password, "masterauth": password} if password else {}
        super().__init__(folder, password=password, options={**asked, **options})
        self.redis = redis.Redis.from_url(self.url, socket_timeout=10, retry=Retry(NoBackoff(), 2))

    def ask(self, command: str) -> Any:
        words: list[Any] = command.split()
        return self.redis.execute_command(*words)  # type: ignore[no-untyped-call,unused-ignore]

    def info(self, section: str, name: str) -> str:
        return str(self.redis.info(section).get(name))

    def end(self) -> None:
        self.redis.close()
        self.kill()


class Servers(ABC):
    """Several servers, which run within a `with` block."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def end(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Cluster(Servers):
    """Three primaries with a third of the slots each, nodes 0 to 2; where it is `replicated`, 3 to 5 follow them.

    A `tolerant` one serves the slots that it has while others are missing.
    """

    def __init__(
        self, folder: Path, *, tolerant: bool = False, replicated: bool = True, options: Mapping[str, str] = _NONE
    ) -> None:
        coverage = {"cluster-require-full-coverage": "no" if tolerant else "yes"}
        count = 6 if replicated else 3
        self.nodes = [_cluster_node(folder / f"node-{number}", coverage | dict(options)) for number in range(count)]
        addresses = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"redis+cluster://{addresses}"

    def start(self) -> None:
        """Form the cluster."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for epoch, node in enumerate(self.nodes, start=1):
            node.ask(f"CLUSTER SET-CONFIG-EPOCH {epoch}")
        for node in others:
            first.ask(f"CLUSTER MEET 127.0.0.1 {node.port} {node.bus}")
        for node, (begin, end) in zip(self.nodes, pairwise(BOUNDS), strict=False):
            node.ask(f"CLUSTER ADDSLOTSRANGE {begin} {end - 1}")
        wait_until(
            lambda: all(_knows(node, len(self.nodes)) for node in self.nodes),
            "all nodes know each other",
            timeout_s=_FORMS_S,
        )
        for primary, replica in zip(self.nodes, self.nodes[3:], strict=False):
            replica.ask(f"CLUSTER REPLICATE {primary.id}")
        wait_until(lambda: all(_is_well(node) for node in self.nodes), "the cluster is well", timeout_s=_FORMS_S)
        wait_until(lambda: all(_follows(node) for node in self.nodes[3:]), "the replicas follow", timeout_s=_FORMS_S)

    def end(self) -> None:
        for node in self.nodes:
            node.end()

    def primary(self, key: str) -> "ClusterNode":
        """Who has this key, as far as a majority says."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            try:
                if node.info("replication", "role") == "master" and slot in node.slots():
                    return node
            except redis.RedisError:
                continue
        raise AssertionError(f"nobody has slot {slot}")

    def replica(self, primary: "ClusterNode") -> "ClusterNode":
        """One that follows this primary."""
        return next(node for node in self.nodes if node.info("replication", "master_port") == str(primary.port))

    def move(self, slots: Sequence[int], source: "ClusterNode", target: "ClusterNode") -> None:
        """Reshard as redis-cli does: slots are marked on both sides, emptied key by key, and given away.

        A hundred at a time, so that none is on its way for long.
        """
        for some in (slots[begin : begin + 100] for begin in range(0, len(slots), 100)):
            target.each(f"CLUSTER SETSLOT {{}} IMPORTING {source.id}", some)
            source.each(f"CLUSTER SETSLOT {{}} MIGRATING {target.id}", some)
            while keys := [key for slot in source.each("CLUSTER GETKEYSINSLOT {} 100", some) for key in slot]:
                source.redis.migrate("127.0.0.1", target.port, keys, 0, 10_000)
            target.each(f"CLUSTER SETSLOT {{}} NODE {target.id}", some)
            source.each(f"CLUSTER SETSLOT {{}} NODE {target.id}", some)


class ClusterNode(Node):
    def __init__(self, folder: Path, *, bus: int, options: Mapping[str, str] = _NONE) -> None:
        self.bus = bus
        usual = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "repl-diskless-sync-delay": "0",
            "repl-timeout": "5",
        }
        super().__init__(folder, **usual | dict(options))

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER MYID").decode())

    def each(self, command: str, words: Sequence[object]) -> list[Any]:
        """The command for each of these words in its position, and its reply.

        Over many connections: Valkey holds each of them up until its replicas know of the change that it asked for.
        """
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(lambda word: self.ask(command.format(word)), words))

    def slots(self) -> set[int]:
        """The slots that this node says it has."""
        rows: list[Any] = self.ask("CLUSTER SLOTS")
        return {slot for first, last, server, *_ in rows if server[1] == self.port for slot in range(first, last + 1)}


def _cluster_node(folder: Path, options: dict[str, str]) -> ClusterNode:
    # The usual offset of 10,000 would leave the range of ports.
    return ClusterNode(folder, bus=free_port(), options=options)


def _knows(node: ClusterNode, count: int) -> bool:
    return b"cluster_known_nodes:%d\r" % count in node.ask("CLUSTER INFO")


def _is_well(node: ClusterNode) -> bool:
    return b"cluster_state:ok" in node.ask("CLUSTER INFO")


def _follows(node: Node) -> bool:
    return node.info("replication", "master_link_status") == "up"


class Watched(Servers):
    """A primary, a replica, and three Sentinels that make the replica the primary where that one falls silent.

    Servers and Sentinels each have a password of their own, if any.
    """

    SERVICE = "sluice"

    def __init__(self, folder: Path, *, password: str = "", sentinel_password: str = "") -> None:
        # Each may be the primary; by default one waits for 5 s whether a second replica comes.
        at_once = {"repl-diskless-sync-delay": "0"}
        self.primary = Node(folder / "primary", password=password, **at_once)
        of = f"127.0.0.1 {self.primary.port}"
        self.replica = Node(folder / "replica", password=password, replicaof=of, **at_once)
        self._folder = folder
        self._passwords = password, sentinel_password
        self.sentinels: list[Sentinel] = []

    @property
    def addresses(self) -> str:
        """Of the Sentinels, as they stand in a URL."""
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.addresses}/{self.SERVICE}"

    def start(self) -> None:
        self.primary.start()
        self.replica.start()
        wait_until(lambda: _follows(self.replica), "the replica follows")
        self.sentinels = [self._sentinel(self._folder / f"sentinel-{number}") for number in range(3)]
        for sentinel in self.sentinels:
            wait_until(sentinel.sees_all, "the Sentinels know each other and the replica")

    def _sentinel(self, folder: Path) -> "Sentinel":
        folder.mkdir()
        of_servers, own = self._passwords
        sentinel = Sentinel(folder, self.primary.port, self.SERVICE, of_servers=of_servers, password=own)
        sentinel.start()
        return sentinel

    def end(self) -> None:
        for sentinel in self.sentinels:
            sentinel.kill()
        self.primary.end()
        self.replica.end()


class Sentinel(Server):
    def __init__(self, folder: Path, primary: int, service: str, *, of_servers: str, password: str) -> None:
        super().__init__(folder, password=password)
        self._service = service
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {service} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {service} {_NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {service} 3000\n"
            + (f"sentinel auth-pass {service} {of_servers}\n" if of_servers else "")
            + (f"requirepass {password}\n" if password else "")
        )
        self._command = [self._command[0], str(file), "--sentinel"]

    def start(self, *options: str) -> None:
        """It looks around as often as tests need; by default every 10 s at servers, every 2 s for other Sentinels."""
        super().start(*options)
        with redis.Redis.from_url(self.url) as client:
            client.execute_command("SENTINEL", "DEBUG", "info-period", 500, "publish-period", 200)  # type: ignore[no-untyped-call,unused-ignore]

    def sees_all(self) -> bool:
        """Whether it knows the two other Sentinels and the replica."""
        with redis.Redis.from_url(self.url) as client:
            about = client.sentinel_master(self._service)
            return (about["num-other-sentinels"], about["num-slaves"]) == (2, 1)
