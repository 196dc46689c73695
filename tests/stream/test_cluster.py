"""A Cluster of three primaries and three replicas, and a primary under Sentinels, that lose servers under load."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from tests.support.processes import Processes
from tests.support.redis.clusters import Cluster, Watched
from tests.support.redis.requests_direct import TINY
from tests.support.steady_load import SteadyLoad
from tests.support.waiting import wait_until

#: Short times, so that nothing is waited for long; a failover takes longer than any of Redis's answers.
_SETTINGS: dict[str, Any] = {"lease_s": 2, "redis_timeout_s": 1, "request_timeout_s": 20}

#: Longest time without an answer, in seconds: the target is 10, this is for slow machines. Clients whose images were
#: lost learn it at the deadline, and send the next ones only then.
_BACK_S = 60


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path / "watched") as watched:
        yield watched


def test_a_cluster_that_loses_a_primary_goes_on(cluster: Cluster, models_dir: Path, tmp_path: Path) -> None:
    """The replica takes over; nothing is answered wrong, and only what was in flight may be lost."""
    with Processes(tmp_path, redis_url=cluster.url, models_dir=models_dir) as processes:
        url = _serve(processes)
        with SteadyLoad(url) as load:
            load.wait_for_more(50)
            cluster.primary(TINY.entries).kill()
            load.wait_for_more(100, timeout_s=_BACK_S)
    assert load.answers.keys() <= {"right", "stream_unavailable", "no_consumer", "deadline_passed"}, load.answers
    assert load.answers["deadline_passed"] <= 4, "one image of each client was in flight"


def test_nothing_is_lost_with_a_primary_where_replicas_are_waited_for(
    cluster: Cluster, models_dir: Path, tmp_path: Path
) -> None:
    """What was accepted is on the replica that takes over: nobody waits until the deadline."""
    with Processes(tmp_path, redis_url=cluster.url, models_dir=models_dir) as processes:
        url = _serve(processes, wait_replicas=1)
        with SteadyLoad(url) as load:
            load.wait_for_more(50)
            failed = cluster.primary(TINY.entries)
            replica = cluster.replica(failed)
            failed.kill()
            wait_until(lambda: replica.info("replication", "role") == "master", "the replica takes over")
            # It has no replica of its own until the one that failed is back as such.
            failed.start()
            load.wait_for_more(50, timeout_s=_BACK_S)
    assert load.answers.keys() <= {"right", "stream_unavailable", "no_consumer"}, load.answers


def test_slots_move_to_another_primary_under_load(cluster: Cluster, models_dir: Path, tmp_path: Path) -> None:
    """A thousand of them, that of the queue too: its keys are on their way one by one, and nothing is lost."""
    with Processes(tmp_path, redis_url=cluster.url, models_dir=models_dir) as processes:
        url = _serve(processes)
        source = cluster.primary(TINY.entries)
        target = next(node for node in cluster.nodes[:3] if node is not source)
        ours = key_slot(TINY.entries.encode())
        slots = [*sorted(source.slots() - {ours})[:999], ours]
        with SteadyLoad(url) as load:
            load.wait_for_more(50)
            cluster.move(slots, source, target)
            load.wait_for_more(100, timeout_s=_BACK_S)
        assert target.slots().issuperset(slots)
    assert load.answers.keys() <= {"right", "stream_unavailable", "no_consumer"}, load.answers


def test_sentinels_make_the_replica_the_primary(watched: Watched, models_dir: Path, tmp_path: Path) -> None:
    """Ingest and consumers follow; the old primary comes back as a replica, and nobody takes it for more."""
    with Processes(tmp_path, redis_url=watched.url, models_dir=models_dir) as processes:
        url = _serve(processes)
        with SteadyLoad(url) as load:
            load.wait_for_more(50)
            watched.primary.kill()
            load.wait_for_more(100, timeout_s=_BACK_S)
            watched.primary.start()
            wait_until(lambda: watched.primary.info("replication", "role") == "slave", "it is a replica now")
            load.wait_for_more(50)
    assert load.answers.keys() <= {"right", "stream_unavailable", "no_consumer", "deadline_passed"}, load.answers
    assert load.answers["deadline_passed"] <= 4, "one image of each client was in flight"


def _serve(processes: Processes, **settings: Any) -> str:
    """Two consumers and one ingest; its URL."""
    for _ in range(2):
        processes.consumer(version=1, **_SETTINGS)
    _, url = processes.ingest(**_SETTINGS, **settings)
    return url
