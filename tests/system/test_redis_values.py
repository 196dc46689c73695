"""Redis's keys get lost or hold garbage while images come: the service heals by itself, and no process ends."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import redis

from stream.keys import MODELS, Partition
from tests.support.images import encoded, scene
from tests.support.processes import Process, Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

TINY = Partition("tiny")

#: Values that no version of Sluice writes, of the kind that each place takes.
_GARBAGE = (
    b"", b"\xff\xfe", b"{}", b"[]", b"null", b"-1", b"x", b'{"name":1}', b"[" * 5000,
    json.dumps({"kind": "done", "id": "a", "version": "x", "provider": "p", "classes": 0, "batch": 1,
                "queue_ms": 0, "run_ms": 0}).encode() + b"\n",
    json.dumps({"name": "tiny", "version": "x", "digest": "", "height": -1, "width": 0, "resize": {},
                "labels": []}).encode(),
    json.dumps({"name": "a", "host": "b", "pid": -1, "version": "x", "provider": "p", "state": "s"}).encode(),
)  # fmt: skip

#: An entry of this layout with one field that is wrong.
_ENTRY: dict[str, bytes | str] = {
    "v": "1",
    "id": "a" * 32,
    "reply": "",
    "top": "5",
    "h": "16",
    "w": "16",
    "px": b"\0" * 768,
    "due": "0",
}
_WRONG_FIELDS: dict[str, bytes | str] = {
    "v": "2", "id": b"\xff", "reply": "a b", "top": "-1", "h": "-16", "w": "1e3", "px": "", "due": "soon",
    "more": "-5", "c": "2", "traceparent": "00-x", "sent": "1.5",
}  # fmt: skip


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


def predict(url: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", content=encoded(scene(16, 16), "PNG"), timeout=30)


@pytest.fixture
def service(processes: Processes) -> tuple[list[Process], str]:
    """Two consumers and an ingest; their processes and the URL."""
    consumers = [processes.consumer(version=1, lease_s=2, redis_timeout_s=1) for _ in range(2)]
    ingest, url = processes.ingest(redis_timeout_s=1, request_timeout_s=3, max_wait_s=2)
    assert predict(url).status_code == 200
    return [*consumers, ingest], url


def test_each_key_that_is_lost_heals_under_load(service: tuple[list[Process], str], client: redis.Redis) -> None:
    """One after the other: consumers announce themselves, their model and their group again; images are answered."""
    running, url = service
    ended, answers = Event(), []

    def load() -> None:
        while not ended.is_set():
            answers.append(predict(url).status_code)

    loading = Thread(target=load)
    loading.start()
    try:
        for name in (TINY.holders, TINY.counters, TINY.entries, MODELS, TINY.alive, TINY.consumers, TINY.versions):
            wait_until(lambda: answers[-3:] == [200] * 3, "images are answered")
            client.delete(name)
            seen = len(answers)
            wait_until(lambda seen=seen: answers[seen + 1 :].count(200) > 3, f"answers without {name}")  # type: ignore[misc]
            if name != TINY.holders:
                wait_until(lambda name=name: client.exists(name), f"{name} is back")  # type: ignore[misc]
    finally:
        ended.set()
        loading.join()
    assert [process.status for process in running] == [None] * 3
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "it is ready")


def test_the_list_of_models_alone_heals_for_an_ingest_that_starts_later(
    service: tuple[list[Process], str], processes: Processes, client: redis.Redis
) -> None:
    """It was the only key that nobody wrote again."""
    client.delete(MODELS)
    _, url = processes.ingest(redis_timeout_s=1)
    assert predict(url).status_code == 200


def test_garbage_in_every_key_ends_no_process(
    service: tuple[list[Process], str], processes: Processes, client: redis.Redis
) -> None:
    """In every key and every field: it is skipped, counted and logged once, and images are answered."""
    running, url = service
    for number, value in enumerate(_GARBAGE):
        client.zadd(MODELS, {b"bad name " + value: 1, b"huge%d" % number: 1e18, b"less%d" % number: -5})
        for name in (TINY.versions, TINY.consumers, TINY.counters, TINY.holders):
            client.hset(name, b"garbage%d" % number, value)
            client.hset(name, value or b"?", value)
        client.zadd(TINY.alive, {value or b"?": "inf"})
        client.xadd(TINY.dead_letters, {"reason": value, b"x" + value: value})
        client.set(TINY.request(f"garbage{number}"), value, ex=60)
        assert httpx.get(f"{url}/results/garbage{number}").status_code == 404
    client.hset(TINY.versions, "1", "not what it was")
    for field, wrong in _WRONG_FIELDS.items():
        client.xadd(TINY.entries, {**_ENTRY, field: wrong})  # type: ignore[dict-item]
    client.xadd(TINY.entries, {"a": "b"})
    for stream in client.keys("sluice:{tiny/0}:replies:*"):
        client.xadd(stream, {b"%d" % number: value for number, value in enumerate(_GARBAGE)})
    later, other = processes.ingest(redis_timeout_s=1)
    wait_until(lambda: predict(other).status_code == 200, "an ingest that comes later answers")
    assert predict(url).status_code == 200
    wait_until(lambda: client.xlen(TINY.entries) == 0, "the entries that nobody can read are dead letters")
    for path in ("metrics", "models"):
        assert httpx.get(f"{url}/{path}", headers={"Accept": "application/json"}).status_code == 200, path
    assert "sluice_redis_unreadable_values_total" in httpx.get(f"{url}/metrics").text
    assert [process.status for process in (*running, later)] == [None] * 4
    assert all("Traceback" not in process.text for process in (*running, later))
    assert all(process.text.count("no model name") <= 1 for process in (*running, later))
    looked = processes.start("consumers.status")
    assert looked.wait() in {0, 1}, looked.text


def test_a_redis_that_cannot_write_is_named(processes: Processes, tmp_path: Path) -> None:
    """It refuses heartbeats, so all consumers seem dead: a client must not hear that none runs."""
    folder = tmp_path / "data"
    folder.mkdir()
    server = Server(folder, options={"save": "3600 1"})
    server.start()
    try:
        processes.consumer(version=1, redis_url=server.url, lease_s=2, redis_timeout_s=1)
        _, url = processes.ingest(redis_url=server.url, redis_timeout_s=1)
        assert predict(url).status_code == 200
        shutil.rmtree(folder)
        with redis.Redis.from_url(server.url) as client:
            client.bgsave()

        def names_the_disk() -> bool:
            response = predict(url)
            assert response.status_code in {200, 503}
            return "cannot write to its disk" in str(response.json().get("detail"))

        wait_until(names_the_disk, "clients hear of the disk")
        with redis.Redis.from_url(server.url) as client:
            wait_until(lambda: not client.zcount(TINY.alive, _now_ms(client), "inf"), "the last heartbeat has ended")
        wait_until(names_the_disk, "clients hear of the disk, not of missing consumers")
        assert [predict(url).json()["code"] for _ in range(5)] == ["stream_unavailable"] * 5
    finally:
        server.kill()


def _now_ms(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_a_request_whose_entry_is_gone_fails_after_its_deadline(
    service: tuple[list[Process], str], client: redis.Redis
) -> None:
    """It said 202 until its result would have expired; the loss is counted."""
    running, url = service
    for consumer in running[:2]:
        consumer.send(signal.SIGSTOP)
    accepted = httpx.post(
        f"{url}/predict", content=encoded(scene(16, 16), "PNG"), headers={"Prefer": "respond-async"}, timeout=30
    )
    assert accepted.status_code == 202
    location = f"{url}{accepted.headers['Location']}"
    for consumer in running[:2]:
        consumer.kill()
    client.delete(*(stream.key for stream in TINY.streams()))
    assert httpx.get(location).status_code == 202
    wait_until(lambda: httpx.get(location).status_code == 504, "it has expired")
    assert client.hget(TINY.counters, "vanished") == b"1"
    assert httpx.get(location).status_code == 504
    assert client.hget(TINY.counters, "vanished") == b"1"


def test_a_waiting_client_hears_that_redis_lost_its_image(
    service: tuple[list[Process], str], client: redis.Redis
) -> None:
    """As after a power failure: the entry and the state of the request are gone. It hears so, and the loss counts."""
    running, url = service
    for consumer in running[:2]:
        consumer.send(signal.SIGSTOP)
    responses: list[httpx.Response] = []
    waiting = Thread(target=lambda: responses.append(predict(url)))
    waiting.start()
    wait_until(lambda: client.xlen(TINY.entries) == 1, "the image is accepted")
    entries: Any = client.xrange(TINY.entries)
    ((_, fields),) = entries
    request = TINY.request(fields[b"id"].decode())
    client.delete(TINY.entries, request)
    waiting.join()
    for consumer in running[:2]:
        consumer.kill()
    (response,) = responses
    assert response.status_code == 504
    assert "Redis has lost it" in response.json()["detail"]
    assert client.hget(TINY.counters, "vanished") == b"1"
    assert "lost it" in str(client.get(request))
    assert 'sluice_group_events_total{event="vanished",model="tiny"} 1.0' in httpx.get(f"{url}/metrics").text


def test_what_an_outage_cost_is_counted_and_sent_again(processes: Processes, client: redis.Redis) -> None:
    """Redis comes back without the last images. That of a waiting client is classified; the other one is reported."""
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest(redis_timeout_s=1)
    assert predict(url).status_code == 200
    consumer.send(signal.SIGSTOP)
    accepted = httpx.post(
        f"{url}/predict", content=encoded(scene(16, 16), "PNG"), headers={"Prefer": "respond-async"}, timeout=30
    )
    responses: list[httpx.Response] = []
    waiting = Thread(target=lambda: responses.append(predict(url)))
    waiting.start()
    streams = [stream.key for stream in TINY.streams()]
    wait_until(lambda: [client.xlen(name) for name in streams] == [1, 1], "both images are accepted")
    stored: list[Any] = [client.xrange(name) for name in streams]
    entries = [entry for entries in stored for entry in entries]
    client.delete(*streams, *(TINY.request(fields[b"id"].decode()) for _, fields in entries))
    client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: client.hget(TINY.counters, "vanished") == b"2", "both losses are counted")
    consumer.send(signal.SIGCONT)
    waiting.join()
    assert [response.status_code for response in responses] == [200]
    lost = httpx.get(f"{url}{accepted.headers['Location']}")
    assert lost.status_code == 504
    assert "Redis has lost it" in lost.json()["detail"]
