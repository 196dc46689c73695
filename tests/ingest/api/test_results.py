"""Results under their ids, over HTTP: coming back, cancelling, and an ingest that died in between."""

import concurrent.futures
import contextlib
import signal

import httpx
import redis

from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, marked, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until


def test_a_result_can_be_fetched_again(processes: Processes) -> None:
    """By its id, the same answer, from any ingest."""
    processes.consumer(version=1)
    (_, one), (_, other) = processes.ingest(), processes.ingest()
    answer = httpx.post(f"{one}/predict", content=png(random_images(1)[0])).json()
    again = httpx.get(f"{other}/results/{answer['id']}")
    assert (again.status_code, again.json()) == (200, answer)


def test_an_id_that_never_was_is_unknown(processes: Processes) -> None:
    """404, whatever it looks like."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    for id_ in ("0" * 32, "..%2f", "{x}", "a" * 500):
        answer = httpx.get(f"{url}/results/{id_}")
        assert (answer.status_code, answer.json()["success"]) == (404, False)
    unknown_option = httpx.get(f"{url}/results/{'0' * 32}?top=1")
    assert (unknown_option.status_code, unknown_option.json()["code"]) == (400, "bad_parameter")


def test_a_late_answer_can_be_fetched_and_a_queued_one_cancelled(processes: Processes, server: Server) -> None:
    """504 names the location where the result will be, if it comes; DELETE takes the work back.

    A client that polls hears that the deadline has passed, though no consumer reads the entry. One that does drops it.
    """
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest(request_timeout_s=0.3, max_wait_s=0.1)
    consumer.kill()  # it counts as alive for its lease, so images are accepted
    (image,) = random_images(1)
    late = httpx.post(f"{url}/predict?threshold=0.3", content=png(image))
    assert late.status_code == 504, late.text
    assert late.headers["location"].endswith("?threshold=0.3")
    location = url + late.headers["location"].partition("?")[0]
    assert (httpx.get(location).status_code, httpx.get(location).json()) == (504, late.json())
    assert httpx.delete(location).status_code == 204
    cancelled = httpx.get(location).json()
    assert (cancelled["code"], cancelled["id"]) == ("cancelled", late.json()["id"])
    assert httpx.delete(location).status_code == 410
    waiting = httpx.post(f"{url}/predict", content=png(image), headers={"Prefer": "respond-async"})
    assert (waiting.status_code, waiting.json()["status"]) == (202, "queued")
    assert int(waiting.headers["retry-after"]) >= 1
    location = url + waiting.headers["location"]
    wait_until(lambda: httpx.get(location).status_code == 504, "its deadline has passed")
    with redis.Redis.from_url(server.url) as client:
        assert client.hgetall(TINY.counters) == {}
        processes.consumer(version=1)
        wait_until(lambda: client.hget(TINY.counters, "completed") == b"2", "both are dropped")
        assert client.hgetall(TINY.counters) == {b"completed": b"2", b"cancelled": b"1", b"expired": b"1"}
    dropped = httpx.get(location)
    assert (dropped.status_code, dropped.json()["code"]) == (504, "deadline_passed")


def test_the_image_of_a_dead_consumer_expires_though_no_other_one_comes(processes: Processes) -> None:
    """A client that polls hears it after the deadline, once the consumer's heartbeat has ended."""
    consumer = processes.consumer(rogue="crash", version=1, lease_s=1, redis_timeout_s=0.5)
    _, url = processes.ingest(request_timeout_s=0.5, max_wait_s=0.1)
    accepted = httpx.post(f"{url}/predict", content=png(marked()), headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    consumer.wait()
    location = url + accepted.headers["location"]
    wait_until(lambda: httpx.get(location).status_code == 504, "it has expired")
    found = httpx.get(location, headers={"Prefer": "wait=20"}).json()
    assert (found["code"], found["detail"][:29]) == ("deadline_passed", "No consumer answered in time.")


def test_what_a_killed_ingest_accepted_is_done_and_can_be_fetched(processes: Processes, server: Server) -> None:
    """SIGKILL of ingest while images wait: each still gets its one result."""
    consumer = processes.consumer(version=1, lease_s=60)
    doomed, url = processes.ingest()
    consumer.send(signal.SIGSTOP)
    images = random_images(10)
    with redis.Redis.from_url(server.url) as client, concurrent.futures.ThreadPoolExecutor(10) as clients:
        for image in images:
            clients.submit(_post_ignoring_the_end, url, png(image))
        wait_until(lambda: client.xlen(TINY.entries) == len(images), "the images are queued")
        doomed.kill()
        consumer.send(signal.SIGCONT)
        wait_until(lambda: client.xlen(TINY.entries) == 0, "all are done")
        ids = [name.decode().rpartition(":")[2] for name in client.scan_iter(TINY.request("*"))]
    _, other = processes.ingest()
    answers = [httpx.get(f"{other}/results/{id_}").json()["predictions"] for id_ in ids]
    assert len(answers) == len(images)
    truths = [ranked(image) for image in images]
    assert all(answer in truths for answer in answers)


def _post_ignoring_the_end(url: str, body: bytes) -> None:
    with contextlib.suppress(httpx.TransportError):
        httpx.post(f"{url}/predict", content=body, timeout=30)


def test_a_finished_result_can_be_deleted(processes: Processes, server: Server) -> None:
    """Its key is gone, and it is unknown from then on, at every ingest."""
    processes.consumer(version=1)
    (_, one), (_, other) = processes.ingest(), processes.ingest()
    request_id = httpx.post(f"{one}/predict", content=png(random_images(1)[0])).json()["id"]
    assert httpx.delete(f"{other}/results/{request_id}").status_code == 204
    assert httpx.get(f"{one}/results/{request_id}").json()["code"] == "unknown_result"
    assert httpx.delete(f"{one}/results/{request_id}").status_code == 404
    with redis.Redis.from_url(server.url) as client:
        assert not client.exists(TINY.request(request_id))


def test_a_dead_letter_is_deleted_after_its_result_has_expired(processes: Processes, server: Server) -> None:
    """A client that knows the id has a right to that as long as the pixels are there."""
    processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest()
    request_id = httpx.post(f"{url}/predict", content=png(marked()), timeout=30).json()["id"]
    with redis.Redis.from_url(server.url) as client:
        client.delete(TINY.request(request_id))
        assert httpx.delete(f"{url}/results/{request_id}").status_code == 204
        assert client.xlen(TINY.dead_letters) == 0
    assert httpx.delete(f"{url}/results/{request_id}").status_code == 404


def test_dead_letters_live_as_long_as_they_are_allowed(processes: Processes, server: Server) -> None:
    """Without anybody who asks for it, and while no consumer runs."""
    consumer = processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest()
    httpx.post(f"{url}/predict", content=png(marked()), timeout=30)
    consumer.stop()
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen(TINY.dead_letters) == 1
        processes.ingest(ready=False, max_dead_letter_age_s=0.1)
        wait_until(lambda: client.xlen(TINY.dead_letters) == 0, "the dead letter is dropped")


def test_a_failed_result_is_deleted_with_the_pixels_of_its_dead_letter(processes: Processes, server: Server) -> None:
    """Those of other requests stay. What was in Redis of the image is in no key any more."""
    processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest()
    failed = [httpx.post(f"{url}/predict", content=png(marked()), timeout=30).json()["id"] for _ in range(2)]
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen(TINY.dead_letters) == 2
        assert httpx.delete(f"{url}/results/{failed[0]}").status_code == 204
        ((_, kept),) = client.xrange(TINY.dead_letters)
        assert kept[b"id"].decode() == failed[1]
        assert httpx.delete(f"{url}/results/{failed[1]}").status_code == 204
        assert not any(marked().tobytes() in client.dump(name) for name in client.scan_iter("*"))
    assert [httpx.get(f"{url}/results/{one}").status_code for one in failed] == [404, 404]
