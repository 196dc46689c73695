"""Prefer and Idempotency-Key over HTTP: come back later, wait a while, send again without a second inference."""

import asyncio
import concurrent.futures
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from ingest.api.async_requests import Preferences
from results.completion import Completed, Completion
from results.outcome import Failed
from stream.connection.clients import connect
from stream.keys import GROUP, EntryStream
from stream.settings import RedisSettings
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

IMAGE, OTHER = random_images(2)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preferences()),
        (["respond-async"], Preferences(True)),
        (["respond-async, wait=10"], Preferences(True, 10)),
        (["Respond-Async", "wait=3, wait=9"], Preferences(True, 3)),
        (['wait="7"; foo=bar, return=minimal'], Preferences(False, 7)),
        (["wait=-1"], Preferences()),
        (["wait=many, handling=lenient"], Preferences()),
        (["wait=99999999999"], Preferences()),
        ([",,,;=\x00"], Preferences()),
    ],
)
def test_preferences_are_read_as_the_rfc_says(headers: list[str], expected: Preferences) -> None:
    """Names in any case, the first of a kind counts, what makes no sense is ignored."""
    assert Preferences.parse(headers) == expected


def test_a_client_need_not_wait(processes: Processes) -> None:
    """202 with a Location at once; the result is there for any client that waits, at any ingest.

    The Location has the threshold that the client asked for.
    """
    processes.consumer(rogue="slow", version=1)
    (_, one), (_, other) = processes.ingest(), processes.ingest()
    accepted = httpx.post(f"{one}/predict", content=png(IMAGE), headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    location = accepted.headers["location"]
    assert accepted.json() == {
        "success": True,
        "status": "queued",
        "id": location.rpartition("/")[2],
        "location": location,
    }
    answer = httpx.get(other + location, headers={"Prefer": "wait=20"}, timeout=30)
    assert (answer.status_code, answer.json()["predictions"]) == (200, ranked(IMAGE))
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.elapsed.total_seconds() < 10
    for query, expected in (("?threshold=1", []), ("?threshold=0.0&top=2", ranked(IMAGE, 2))):
        accepted = httpx.post(f"{one}/predict{query}", content=png(IMAGE), headers={"Prefer": "respond-async"})
        location = accepted.headers["location"]
        assert location == accepted.json()["location"]
        answer = httpx.get(other + location, headers={"Prefer": "wait=20"}, timeout=30)
        assert (answer.status_code, answer.json()["predictions"]) == (200, expected)


def test_many_can_wait_for_one_result(processes: Processes) -> None:
    """At the same ingest and at others, each gets it."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    urls = [processes.ingest()[1] for _ in range(2)]
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        urls_of_results = [
            httpx.post(f"{urls[0]}/predict", content=png(IMAGE), headers={"Prefer": "respond-async"}).headers[
                "location"
            ]
            for _ in range(5)
        ]
        ask = [
            clients.submit(httpx.get, url + urls_of_results[-1], headers={"Prefer": "wait=20"}, timeout=30)
            for url in urls * 4
        ]
        assert [one.result().json()["predictions"] for one in ask] == [ranked(IMAGE)] * 8


def test_a_client_may_wait_for_a_while(processes: Processes) -> None:
    """The answer if it is there in time, else 202."""
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest()
    in_time = httpx.post(f"{url}/predict", content=png(IMAGE), headers={"Prefer": "wait=20"}, timeout=30)
    assert (in_time.status_code, in_time.json()["predictions"]) == (200, ranked(IMAGE))
    consumer.kill()
    late = httpx.post(f"{url}/predict?threshold=0.3", content=png(IMAGE), headers={"Prefer": "wait=1"}, timeout=30)
    assert late.status_code == 202
    again = httpx.get(url + late.headers["location"], headers={"Prefer": "wait=1"})
    assert (again.status_code, again.json()) == (202, late.json())


def test_several_images_have_a_url_each(processes: Processes) -> None:
    """One that is damaged has its error in the list."""
    processes.consumer(rogue="slow", version=1)
    _, url = processes.ingest()
    files = [
        ("image", ("a.png", png(IMAGE))),
        ("image", ("b.png", b"\x89PNG\r\n\x1a\nno")),
        ("image", ("c.png", png(OTHER))),
    ]
    accepted = httpx.post(f"{url}/predict", files=files, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    first, damaged, last = accepted.json()["results"]
    assert damaged["error"]["status"] == 422
    for one, image in ((first, IMAGE), (last, OTHER)):
        answer = httpx.get(url + one["location"], headers={"Prefer": "wait=20"}, timeout=30)
        assert answer.json()["predictions"] == ranked(image)


def test_the_same_key_gives_the_same_result_and_no_second_inference(
    processes: Processes, server: Server, tmp_path: Path
) -> None:
    """At once, from two ingests, and again later: one id, one inference."""
    processes.consumer(rogue="slow", version=1)
    urls = [processes.ingest()[1] for _ in range(2)]
    key = {"Idempotency-Key": str(uuid.uuid4())}
    with concurrent.futures.ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda url: httpx.post(f"{url}/predict", content=png(IMAGE), headers=key), urls * 3))
    answers.append(httpx.post(f"{urls[0]}/predict", content=png(IMAGE), headers=key))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[0].json()["predictions"] == ranked(IMAGE)
    with redis.Redis.from_url(server.url) as client:
        assert client.hgetall(TINY.counters) == {b"completed": b"1"}


def test_a_key_belongs_to_one_image(processes: Processes) -> None:
    """With another image, or another number of labels, it is a mistake of the client's: 422.

    After its result is deleted, the same request classifies the image again, under the same id.
    """
    processes.consumer(version=1)
    _, url = processes.ingest()
    key = {"Idempotency-Key": "a key of mine"}
    first = httpx.post(f"{url}/predict", content=png(IMAGE), headers=key)
    result = f"{url}/results/{first.json()['id']}"
    assert (first.status_code, httpx.delete(result).status_code, httpx.get(result).status_code) == (200, 204, 404)
    again = httpx.post(f"{url}/predict", content=png(IMAGE), headers=key)
    assert (again.json(), httpx.get(result).json()) == (first.json(), first.json())
    for changed in (
        httpx.post(f"{url}/predict", content=png(OTHER), headers=key),
        httpx.post(f"{url}/predict?top=2", content=png(IMAGE), headers=key),
    ):
        assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")
        assert "another image at this position (0, counted from 0)" in changed.json()["detail"]
    too_long = httpx.post(f"{url}/predict", content=png(IMAGE), headers={"Idempotency-Key": "x" * 256})
    assert too_long.status_code == 400


def test_a_key_that_was_refused_can_be_used_again(processes: Processes) -> None:
    """A 503 accepts nothing: the same key finds no result and is admitted then."""
    consumer = processes.consumer(version=1)
    _, url = processes.ingest()
    consumer.stop()
    key = {"Idempotency-Key": "again"}
    assert httpx.post(f"{url}/predict", content=png(IMAGE), headers=key).status_code == 503
    processes.consumer(version=1).ready()
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "ingest is ready again")
    answer = httpx.post(f"{url}/predict", content=png(IMAGE), headers=key)
    assert answer.json()["predictions"] == ranked(IMAGE)


def test_a_key_of_a_request_that_expired_classifies_the_image(processes: Processes, server: Server) -> None:
    """Under the same id, as the 504 advises; else the key would give the 504 again while results are kept.

    If it expires while another request waits for it, that one sends the image again, and waits no longer for that.
    """
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest(request_timeout_s=4, max_wait_s=0.1)
    consumer.kill()  # It counts as alive for its lease.
    key = {"Idempotency-Key": "late"}
    earlier = httpx.post(f"{url}/predict", content=png(IMAGE), headers={**key, "Prefer": "respond-async"}).json()["id"]
    with redis.Redis.from_url(server.url) as client, concurrent.futures.ThreadPoolExecutor() as clients:
        began_s = time.monotonic()
        waiting = clients.submit(httpx.post, f"{url}/predict", content=png(IMAGE), headers=key, timeout=30)
        # The mark of a queued request names the ingests that wait.
        wait_until(lambda: len(bytes(client.get(TINY.request(earlier)) or b"").split()) == 4, "the other one waits")
        wait_until(lambda: time.monotonic() - began_s > 2.2, "more than half of the time has passed")
        assert asyncio.run(expire(server, TINY.stream("bulk"))) == earlier
        wait_until(lambda: client.xlen(TINY.entries) == 1, "the image is sent again")
        late = waiting.result()
    assert late.elapsed.total_seconds() < 6, late.text
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    assert "Send it again" in late.json()["detail"]
    processes.consumer(version=1)
    answers: list[httpx.Response] = []

    def is_classified() -> bool:
        answers.append(httpx.post(f"{url}/predict", content=png(IMAGE), headers=key, timeout=30))
        return answers[-1].status_code == 200

    wait_until(is_classified, "it is classified")
    assert (answers[-1].json()["id"], answers[-1].json()["predictions"]) == (late.json()["id"], ranked(IMAGE))


async def expire(server: Server, stream: EntryStream) -> str:
    """Read an entry as a consumer that drops it as expired; returns its request id."""
    async with connect(RedisSettings(redis_url=server.url)) as client:
        found: Any = await client.xreadgroup(GROUP, "late", {stream.key: ">"}, count=1)
        ((entry_id, fields),) = found[0][1]
        completion = Completion(client, TINY, consumer="late", result_ttl_s=60, max_dead_letters=9)
        expired = Failed(fields[b"id"].decode(), "expired", "test")
        assert await completion.complete([Completed(stream.prefix + entry_id.decode(), expired, "")]) == [True]
        return expired.id


def test_a_damaged_image_does_not_use_up_a_key(processes: Processes, server: Server) -> None:
    """The key can be used again with the right image, and the damaged one leaves nothing behind."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    key = {"Idempotency-Key": "once more"}
    assert httpx.post(f"{url}/predict", content=png(IMAGE)[:50], headers=key).status_code == 422
    with redis.Redis.from_url(server.url) as client:
        assert list(client.scan_iter(TINY.idempotency("*"))) == []
    assert httpx.post(f"{url}/predict", content=png(IMAGE), headers=key).json()["predictions"] == ranked(IMAGE)
