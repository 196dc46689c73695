"""Webhooks in a Redis Cluster: three partitions on three primaries, and a slot that moves while webhooks wait."""

import json
from collections import defaultdict
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from stream.keys import Partition
from tests.ingest.webhooks.test_webhooks import LOCAL, SENDER, command, counted, submit, verified
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.recorded_server import Answer, Failing, Recorded, body, serve
from tests.support.redis.clusters import Cluster, ClusterNode
from tests.support.waiting import wait_until

#: Images, enough that each of three partitions gets some.
_COUNT = 24

PARTITIONS = [Partition("tiny", number) for number in range(3)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), replicated=False) as cluster:
        yield cluster


@pytest.fixture
def receiver() -> Iterator[Recorded]:
    answers: dict[str, Answer] = {"/ok": Failing(500, 500, 500), "/gone": body(b"", status=410)}
    with serve(answers) as recorded:
        yield recorded


@pytest.fixture(scope="module")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Processes, str]]:
    """A consumer and an ingest, and the URL. Each test starts a sender of its own."""
    folder = tmp_path_factory.mktemp("service")
    tiny_model.build(folder / "models")
    with Processes(folder, redis_url=cluster.url, models_dir=folder / "models") as processes:
        processes.consumer(partitions=3)
        _, url = processes.ingest(partitions=3, **LOCAL)
        yield processes, url


def test_webhooks_of_all_partitions_are_delivered_while_a_slot_moves(
    cluster: Cluster, service: tuple[Processes, str], receiver: Recorded
) -> None:
    """Each with one webhook-id, wherever its partition lies."""
    processes, url = service
    waiting = [submit(url, f"{receiver.url}/ok") for _ in range(_COUNT)]
    nodes = [cluster.primary(one.webhooks) for one in PARTITIONS]
    assert len({node.port for node in nodes}) > 1, "the partitions lie on several servers"
    wait_until(lambda: sum(_waiting(nodes)) == _COUNT, "all outcomes wait for a sender")
    assert all(_waiting(nodes)), "each partition has some"
    processes.start("ingest.webhooks", partitions=3, **SENDER)
    target = next(node for node in cluster.nodes if node is not nodes[0])
    cluster.move([key_slot(PARTITIONS[0].webhooks.encode())], nodes[0], target)
    later = [submit(url, f"{receiver.url}/ok") for _ in range(_COUNT)]
    wait_until(lambda: counted(url, "webhook_delivered") == 2 * _COUNT, "all are delivered")
    ids = defaultdict(set)
    for post in receiver.posts:
        ids[verified(post)["data"]["id"]].add(post.headers["webhook-id"])
    assert ids.keys() == {*waiting, *later}
    assert {len(one) for one in ids.values()} == {1}


def _waiting(nodes: list[ClusterNode]) -> list[int]:
    """How many webhooks wait in each partition; `nodes` has the server of each."""
    return [int(node.redis.xlen(one.webhooks)) for one, node in zip(PARTITIONS, nodes, strict=True)]


def test_a_webhook_that_was_given_up_in_a_cluster_can_be_replayed(
    service: tuple[Processes, str], receiver: Recorded
) -> None:
    """The command finds it in its partition."""
    processes, url = service
    processes.start("ingest.webhooks", partitions=3, **SENDER)
    before = counted(url, "webhook_dead")
    gone = submit(url, f"{receiver.url}/gone")
    wait_until(lambda: counted(url, "webhook_dead") == before + 1, "it is given up")
    (dead,) = json.loads(command(processes, "results", "webhooks", "list", "--json"))
    assert dead["request_id"] == gone
    assert "replayed" in command(processes, "results", "webhooks", "replay", gone)
    wait_until(lambda: counted(url, "webhook_dead") == before + 2, "it was tried again")
