"""Images of one model spread over several streams, by whole processes."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from stream.keys import MODELS, Partition, partition_of
from stream.keys import gpu_lease as key_of
from tests.ingest.api.test_live import snapshots
from tests.ingest.test_app import png, ranked
from tests.support.processes import Process, Processes
from tests.support.redis.clusters import Cluster
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.steady_load import SteadyLoad
from tests.support.waiting import wait_until
from tests.system.test_metrics import figure, figures

#: At the only GPU of those tests that pretend one.
LEASE = key_of("pretended-0", 0)

THREE = [Partition(TINY.model, number) for number in range(3)]

#: Heartbeats, and the look for new partitions, come every quarter of the lease. On a busy machine heartbeats come late:
#: after three quarters without one a partition counts as served by nobody.
_LEASE_S = 6


@pytest.fixture
def direct(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


def _post(client: httpx.Client, number: int, **headers: str) -> httpx.Response:
    return client.post("/predict", content=png(random_images(60)[number]), headers=headers)


def _completed(direct: redis.Redis) -> list[int]:
    return [int(direct.hget(one.counters, "completed") or 0) for one in THREE]


def test_images_are_spread_and_found_again(processes: Processes, direct: redis.Redis) -> None:
    """Each partition gets some, each answer is right, and its id leads back to it, by HTTP and by the command."""
    processes.consumer(version=1, partitions=3, lease_s=_LEASE_S)
    _, url = processes.ingest(partitions=3)
    with httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: "degraded" not in client.get("/readyz").json(), "all three are served")
        answers = [_post(client, number) for number in range(60)]
        for number, answer in enumerate(answers):
            assert answer.json()["predictions"] == ranked(random_images(60)[number])
            again = client.get(f"/results/{answer.json()['id']}")
            assert again.json()["predictions"] == answer.json()["predictions"]
        assert {partition_of(answer.json()["id"]) for answer in answers} == {0, 1, 2}
        assert client.get("/results/" + "0" * 32 + "-7").status_code == 404
        keyed = [_post(client, 1, **{"Idempotency-Key": "one"}).json()["id"] for _ in range(3)]
        assert len(set(keyed)) == 1
        assert 'sluice_group_events_total{event="completed",model="tiny"} 61.0' in client.get("/metrics").text
    assert all(count > 0 for count in _completed(direct))


def test_more_partitions_come_into_use_while_all_runs(processes: Processes, direct: redis.Redis) -> None:
    """An ingest that sends to three lets the consumer of one serve them; until then the first takes all."""
    processes.consumer(version=1, lease_s=_LEASE_S)
    _, url = processes.ingest(partitions=3)
    with httpx.Client(base_url=url, timeout=30) as client:
        assert _post(client, 0).status_code == 200
        wait_until(lambda: "degraded" not in client.get("/readyz").json(), "all three are served")

        def all_used() -> bool:
            assert _post(client, 0).status_code == 200
            return all(_completed(direct))

        wait_until(all_used, "each has completed some")


def test_what_waits_in_partitions_that_nobody_sends_to_is_done(processes: Processes, direct: redis.Redis) -> None:
    """Fewer partitions: consumers serve those that were there, until they are empty and after."""
    consumer = processes.consumer(version=1, partitions=3, lease_s=_LEASE_S)
    _, url = processes.ingest(partitions=3, accept_without_consumers=True)
    with httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: "degraded" not in client.get("/readyz").json(), "all three are served")
        assert consumer.stop() == 0
        left = [line for line in consumer.text.splitlines() if "left the group" in line]
        assert sorted(line.rpartition(" ")[2] for line in left) == ["partition=0", "partition=1", "partition=2"]
        answers = [_post(client, number, Prefer="respond-async") for number in range(60)]
        ids = [answer.json()["id"] for answer in answers]
        assert {partition_of(one) for one in ids} == {0, 1, 2}
    processes.consumer(version=1, partitions=1, lease_s=_LEASE_S)
    _, url = processes.ingest(partitions=1)
    with httpx.Client(base_url=url, timeout=30) as client:
        for number, one in enumerate(ids):
            answer = client.get(f"/results/{one}", headers={"Prefer": "wait=20"})
            assert answer.json()["predictions"] == ranked(random_images(60)[number])
        assert {partition_of(_post(client, number).json()["id"]) for number in range(10)} == {0}


def test_a_flooded_partition_starves_no_other(processes: Processes, direct: redis.Redis) -> None:
    """One has a long queue, another a single image now and then: that is done while the queue is long."""
    processes.consumer(rogue="slow", version=1, partitions=2, max_batch=2, lease_s=_LEASE_S)
    _, url = processes.ingest(partitions=2, max_wait_s=25)
    with httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: "degraded" not in client.get("/readyz").json(), "both are served")

    _flood(direct, 200)
    for _ in range(3):
        one = _trickle(direct)
        wait_until(lambda one=one: not _queued(direct, one), "the single image is done")  # type: ignore[misc]
        assert direct.xlen(THREE[0].entries) > 50, "the flood outlasts it, or this test shows nothing"


def _fields(number: int, request_id: str) -> dict[str, object]:
    image = random_images(60)[number % 60]
    return {"v": 1, "id": request_id, "reply": "", "top": 1, "h": 16, "w": 16, "px": image.tobytes(), "due": 0}


def _flood(direct: redis.Redis, count: int) -> None:
    for number in range(count):
        direct.xadd(THREE[0].entries, _fields(number, f"{number:032x}"))  # type: ignore[arg-type]


def _trickle(direct: redis.Redis) -> str:
    entry_id: bytes = direct.xadd(THREE[1].entries, _fields(0, "f" * 32 + "-1"))  # type: ignore[arg-type,assignment]
    return entry_id.decode()


def _queued(direct: redis.Redis, entry_id: str) -> bool:
    return bool(direct.xrange(THREE[1].entries, entry_id, entry_id))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries that go on without each other, and without replicas that would take over."""
    with Cluster(tmp_path_factory.mktemp("cluster"), tolerant=True) as cluster:
        for replica in cluster.nodes[3:]:
            replica.kill()
        yield cluster


@pytest.fixture
def clustered(cluster: Cluster, models_dir: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of an ingest that has three partitions there, all of them served."""
    with Processes(tmp_path, redis_url=cluster.url, models_dir=models_dir) as processes:
        settings = {
            "partitions": 3,
            "lease_s": _LEASE_S,
            "redis_timeout_s": 1,
            # The longest wait of a client whose image was lost.
            "request_timeout_s": 5,
            "max_wait_s": 3,
        }
        processes.consumer(version=1, **settings)  # type: ignore[arg-type]
        _, url = processes.ingest(**settings)  # type: ignore[arg-type]
        wait_until(lambda: not _degraded(url), "all three are served")
        yield url


def test_while_a_primary_is_unavailable_the_others_take_its_images(cluster: Cluster, clustered: str) -> None:
    """Nobody is refused once ingest knows, and it says which is degraded."""
    failing = cluster.primary(THREE[1].entries)
    with SteadyLoad(clustered) as load:
        load.wait_for_more(50)
        failing.kill()
        wait_until(lambda: 1 in _degraded(clustered), "it is known to be unavailable")
        refused = load.answers["stream_unavailable"]
        load.wait_for_more(100)
        assert load.answers["stream_unavailable"] <= refused + 4, "what was on its way there"
        failing.start()
        wait_until(lambda: not _degraded(clustered), "all are back")
    assert load.answers["wrong"] == 0


def test_each_partition_that_does_not_answer_is_shown(cluster: Cluster, clustered: str) -> None:
    """Whether its server hangs or is dead, and of the others what they say; so without the list of all partitions."""
    completed = {"model": TINY.model, "event": "completed"}
    wait_until(lambda: _backlogs(clustered) == {0: 0, 1: 0, 2: 0}, "all answer, and are empty")
    assert figure(clustered, "sluice_group_events_total", **completed) is not None
    assert cluster.primary(MODELS) is cluster.primary(THREE[2].entries), "the list is lost with it below"
    for lost in ([0, 1], [2]):
        failing = cluster.primary(THREE[lost[0]].entries)
        left = dict.fromkeys({0, 1, 2} - set(lost), 0)
        problems = [f"Partition {number} does not answer." for number in lost]
        failing.signal(signal.SIGSTOP)
        wait_until(lambda left=left: _backlogs(clustered) == left, f"{lost} hang")  # type: ignore[misc]
        wait_until(lambda problems=problems: _problems(clustered) == problems, "the page says so")  # type: ignore[misc]
        failing.kill()
        wait_until(lambda left=left: _backlogs(clustered) == left, f"{lost} are dead")  # type: ignore[misc]
        assert figure(clustered, "sluice_redis_up") == 1
        assert figure(clustered, "sluice_group_events_total", **completed) is None, "a counter must not fall"
        failing.start()
        wait_until(lambda: len(_backlogs(clustered)) == 3, "all are back")


@pytest.fixture
def on_gpus(cluster: Cluster, models_dir: Path, tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    """A consumer at the only GPU, which is pretended, and one that waits for its lease."""
    cluster.primary(MODELS).redis.delete(LEASE)
    with Processes(tmp_path, redis_url=cluster.url, models_dir=models_dir) as processes:
        processes.share(GPUS="1", SLUICE_CONSUMERS_PER_GPU="1")
        settings: dict[str, Any] = {"version": 1, "partitions": 3, "lease_s": _LEASE_S, "redis_timeout_s": 1}
        first = processes.start("tests.support.programs.pretended_gpus", **settings).ready()
        second = processes.start("tests.support.programs.pretended_gpus", **settings)
        wait_until(lambda: second.says("waiting for a GPU lease"), "the second waits")
        yield first, second


@pytest.mark.parametrize("lost", [THREE[0].entries, MODELS], ids=["partition 0", "the leases themselves"])
def test_a_gpu_stays_its_consumer_s_whatever_is_unavailable(
    cluster: Cluster, on_gpus: tuple[Process, Process], lost: str
) -> None:
    """It keeps its lease while partition 0 is unavailable, and acquires it again when that server is back, empty."""
    first, second = on_gpus
    assert cluster.primary(THREE[0].entries) is not cluster.primary(MODELS)
    failing, leases = cluster.primary(lost), cluster.primary(MODELS).redis
    failing.kill()
    if lost == MODELS:
        wait_until(lambda: "cannot renew the lease of GPU" in first.text, "the first knows")
        wait_until(lambda: "waiting for Redis" in second.text, "the second knows")
    else:
        renewals = Renewals(leases, LEASE)
        wait_until(lambda: renewals.seen() >= 6, "for longer than a lease it is renewed all the time", timeout_s=60)
    failing.start()
    wait_until(lambda: _holder(leases), "the lease is acquired")
    assert _holder(leases) in first.text
    assert (first.status, second.status) == (None, None)
    assert "acquired a GPU lease" not in second.text


def _holder(leases: redis.Redis) -> str:
    """Who has the place; nobody where its server is not back yet."""
    try:
        name: Any = leases.get(LEASE)
    except redis.RedisError:
        return ""
    return name.decode() if name else ""


class Renewals:
    """How often a key's time to live was seen to grow."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key
        self._left_ms = 0
        self._count = 0

    def seen(self) -> int:
        left_ms: Any = self._client.pttl(self._key)
        assert left_ms > 0, "the place is free"
        self._count += left_ms > self._left_ms
        self._left_ms = left_ms
        return self._count


def _backlogs(url: str) -> dict[int, float]:
    """Of the partitions that answer; of the others none is shown."""
    found = figures(url)
    labels = {number: (("model", TINY.model), ("partition", str(number))) for number in range(3)}
    up = {number for number, of in labels.items() if found.get(("sluice_partition_up", of))}
    backlogs = {of: found.get(("sluice_partition_backlog_entries", labels[of])) for of in labels}
    assert {number for number, backlog in backlogs.items() if backlog is not None} == up
    return {number: backlog for number, backlog in backlogs.items() if backlog is not None}


def _problems(url: str) -> object:
    with snapshots(url) as coming:
        models = next(coming)["models"]
    return models and models[0]["problems"]


def _degraded(url: str) -> set[int]:
    return {one["partition"] for one in httpx.get(f"{url}/readyz").json().get("degraded", ())}
