"""What a client gets without consumers, with a full queue, after a deadline and in an outage."""

import concurrent.futures

import httpx
import pytest
import redis

from ingest.health import not_ready
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

#: Those too that share a service, whose server is no fixture.
pytestmark = pytest.mark.server


def test_without_a_consumer_the_service_is_alive_and_not_ready(processes: Processes) -> None:
    """503 with Retry-After, and the command that would help."""
    assert not_ready(f"http://127.0.0.1:{free_port()}").startswith("nothing listens there; SLUICE_PORT")
    _, url = processes.ingest(ready=False)
    assert httpx.get(url + "/healthz").status_code == 200
    for answer in (httpx.get(url + "/readyz"), httpx.post(url + "/predict", content=png(random_images(1)[0]))):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["code"] in {"no_consumer", "stream_unavailable"}


def test_an_ingest_becomes_ready_when_a_consumer_comes(processes: Processes) -> None:
    """Neither has to be started first. An ingest that waits for long logs how to start one."""
    ingest, url = processes.ingest(ready=False, request_timeout_s=0.5, max_wait_s=0.4)
    wait_until(lambda: ingest.says("no consumer serves any model; start one with: "), "the line is there")
    assert " -m consumers --model NAME (with the consumers' SLUICE_REDIS_URL)" in ingest.text
    processes.consumer(version=1)
    wait_until(lambda: httpx.get(url + "/readyz").status_code == 200, "ingest is ready")
    wait_until(lambda: ingest.says("consumers serve a model again"), "the log says so")


def test_a_worker_that_accepts_requests_knows_the_consumers(processes: Processes) -> None:
    """Of workers that share a port, one that is started again would else refuse what the others take."""
    processes.consumer(version=1).ready()
    _, url = processes.ingest(ready=False)
    assert httpx.get(url + "/readyz").status_code == 200


def test_images_wait_for_a_consumer_that_is_started_because_they_wait(processes: Processes, server: Server) -> None:
    """Nobody serves the model any more, but it is known: an ingest that was started since accepts, and is ready."""
    processes.consumer(version=1).ready().stop()
    _, url = processes.ingest(accept_without_consumers=True)
    _, strict = processes.ingest(ready=False)
    (image,) = random_images(1)
    wait_until(lambda: httpx.get(strict + "/readyz").json().get("code") == "no_consumer", "the other has read it")
    assert httpx.post(strict + "/predict", content=png(image)).status_code == 503
    with concurrent.futures.ThreadPoolExecutor(1) as client, redis.Redis.from_url(server.url) as observer:
        answer = client.submit(httpx.post, url + "/predict", content=png(image), timeout=60)
        wait_until(lambda: observer.xlen(TINY.entries) == 1, "the image waits")
        processes.consumer(version=1)
        assert answer.result().json()["predictions"] == ranked(image)


def test_an_unknown_model_is_not_accepted_without_consumers(processes: Processes) -> None:
    """Nobody knows how to prepare its images: not ready, and refused."""
    _, url = processes.ingest(ready=False, accept_without_consumers=True)
    wait_until(lambda: httpx.get(url + "/readyz").json().get("code") == "no_consumer", "ingest has its model registry")
    assert httpx.post(url + "/predict", content=png(random_images(1)[0])).json()["code"] == "no_consumer"


def test_a_full_queue_is_refused_with_a_time_to_come_back(processes: Processes, server: Server) -> None:
    """503 and Retry-After, at once; what was accepted is answered."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    _, url = processes.ingest(max_backlog=3)
    images = random_images(12)
    with httpx.Client(base_url=url, timeout=30) as service, concurrent.futures.ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda image: service.post("/predict", content=png(image)), images))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert all(answer.json()["code"] == "overloaded" and int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert all("as many as max_backlog allows." in answer.json()["detail"] for answer in refused)
    for answer, image in zip(answers, images, strict=True):
        assert answer.status_code == 503 or answer.json()["predictions"] == ranked(image)


def test_a_deadline_that_passes_is_reported(processes: Processes) -> None:
    """504 soon after the deadline, though the consumer is busy for longer. Headers and the number of images change
    nothing."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=1, lease_s=60)
    _, url = processes.ingest(request_timeout_s=0.2, max_wait_s=0.1)
    with httpx.Client(base_url=url, timeout=30) as service, concurrent.futures.ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda image: service.post("/predict", content=png(image)), random_images(20)))
    late = [answer for answer in answers if answer.status_code == 504]
    assert late
    assert {answer.json()["code"] for answer in late} == {"deadline_passed"}
    assert {answer.status_code for answer in answers} <= {200, 504}
    consumer.kill()  # It counts as alive for its lease.
    for count in (1, 2):
        for headers in ({}, {"Idempotency-Key": f"late {count}"}, {"Prefer": "wait=20"}):
            files = [("image", png(image)) for image in random_images(count)]
            answer = httpx.post(f"{url}/predict", files=files, headers=headers, timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_passed"), (headers, count)
            assert answer.headers["location"] == f"/results/{answer.json()['id']}"


def test_an_outage_of_redis_is_a_503_within_two_seconds_and_then_over(processes: Processes, own_server: Server) -> None:
    """No restart of ingest is needed."""
    processes.consumer(version=1, redis_url=own_server.url)
    _, url = processes.ingest(redis_url=own_server.url)
    (image,) = random_images(1)
    with httpx.Client(base_url=url, timeout=30) as service:
        assert service.post("/predict", content=png(image)).status_code == 200
        own_server.kill()
        answer = service.post("/predict", content=png(image))
        assert (answer.status_code, answer.json()["code"]) == (503, "stream_unavailable")
        assert answer.elapsed.total_seconds() < 2
        own_server.start()
        wait_until(lambda: service.post("/predict", content=png(image)).status_code == 200, "it answers again")


def test_an_ingest_that_lost_its_model_registry_ends(processes: Processes) -> None:
    """By a mistake of ours: it must not stay, look alive and answer nobody."""
    ended = processes.start("tests.support.programs.failing_registry", port=free_port(), redis_timeout_s=0.2)
    assert ended.wait() == 0
    assert "the model registry has ended" in ended.text
