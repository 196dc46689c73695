"""Bits flip in Redis, on its disk or in its memory: no prediction is wrong, and clients hear what happened."""

import signal
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import httpx
import pytest
import redis

from stream.entry import Entry
from stream.keys import Partition
from tests.support.images import encoded, scene
from tests.support.processes import Processes
from tests.support.redis.inline import inline
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

TINY = Partition("tiny")


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def url(processes: Processes) -> str:
    """Of an ingest, with a consumer."""
    processes.consumer(version=1)
    return processes.ingest()[1]


def predict(url: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", content=encoded(scene(16, 16), "PNG"), headers=headers, timeout=30)


def flip(value: bytes, position: int) -> bytes:
    return value[:position] + bytes([value[position] ^ 4]) + value[position + 1 :]


def add_damaged(client: redis.Redis, request_id: str) -> None:
    """An entry as ingest writes it, but one of its pixels has changed."""
    fields = inline(Entry(request_id, "", 5, 16, 16, bytes(768)))
    client.xadd(TINY.entries, {**fields, "px": flip(bytes(768), 500)})


def test_a_damaged_entry_is_never_classified(url: str, client: redis.Redis) -> None:
    """It becomes a dead letter with that reason, and its client gets a 500 that says so."""
    add_damaged(client, "a" * 32)
    wait_until(lambda: client.xlen(TINY.dead_letters) == 1, "it is a dead letter")
    dead_letters: Any = client.xrange(TINY.dead_letters)
    assert dead_letters[0][1][b"reason"].startswith(b"damaged: ")
    response = httpx.get(f"{url}/results/{'a' * 32}")
    assert (response.status_code, response.json()["code"]) == (500, "damaged_in_redis")
    assert 'sluice_group_events_total{event="damaged",model="tiny"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_damaged_result_is_reported_and_computed_again(url: str, client: redis.Redis) -> None:
    """Under its id it is a 500. Who sends the image again under the same key gets the prediction, not the damage."""
    first = predict(url, **{"Idempotency-Key": "once"}).json()
    key = TINY.request(first["id"])
    stored = client.get(key)
    assert isinstance(stored, bytes)
    client.set(key, flip(stored, len(stored) - 2), keepttl=True)
    response = httpx.get(f"{url}/results/{first['id']}")
    assert (response.status_code, response.json()["code"]) == (500, "damaged_in_redis")
    metrics = httpx.get(f"{url}/metrics").text
    assert 'sluice_redis_unreadable_values_total{kind="intact outcome"}' in metrics
    again = predict(url, **{"Idempotency-Key": "once"})
    assert again.status_code == 200
    assert again.json()["predictions"] == first["predictions"]
    assert httpx.get(f"{url}/results/{first['id']}").status_code == 200


def flip_a_pixel(client: redis.Redis, key: bytes) -> None:
    pixels = client.get(key)
    assert isinstance(pixels, bytes)
    client.set(key, flip(pixels, 500), keepttl=True)


def replace_the_pixels(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.rpush(key, "no pixels")


def delete_the_pixels(client: redis.Redis, key: bytes) -> None:
    client.delete(key)


@pytest.mark.parametrize(("damage", "waited_s"), [(flip_a_pixel, 0), (replace_the_pixels, 0), (delete_the_pixels, 2.2)])
def test_an_image_that_is_damaged_on_its_way_is_sent_again(
    processes: Processes, client: redis.Redis, damage: Callable[[redis.Redis, bytes], None], waited_s: float
) -> None:
    """Its ingest still has the pixels, so the client notices nothing. It has the time that is left."""
    consumer = processes.consumer(version=1)
    _, url = processes.ingest(request_timeout_s=4, max_wait_s=1)
    assert predict(url).status_code == 200
    consumer.send(signal.SIGSTOP)
    wait_until(lambda: not reads(client), "the consumer's last read has ended")
    responses: list[httpx.Response] = []
    began_s = time.monotonic()
    waiting = Thread(target=lambda: responses.append(predict(url)))
    waiting.start()
    wait_until(lambda: client.xlen(TINY.entries) == 1, "the image is accepted")
    wait_until(lambda: time.monotonic() - began_s > waited_s, "so much of the time has passed")
    (key,) = (key for key in client.scan_iter(TINY.pixels("*")) if client.strlen(key))
    damage(client, key)
    consumer.send(signal.SIGCONT)
    waiting.join()
    assert [response.status_code for response in responses] == [200]
    assert client.hget(TINY.counters, "damaged") == b"1"


def reads(client: redis.Redis) -> bool:
    """Whether a group read waits for entries. It would take the next one, although its process stands still."""
    return any(one["cmd"] == "xreadgroup" and "b" in one["flags"] for one in client.client_list())
