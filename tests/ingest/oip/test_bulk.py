"""Requests of many images under pressure: full queues, other versions, deadlines, clients that hang up."""

import concurrent.futures
import json
import signal
import socket

import httpx
import numpy as np
import redis
from numpy.typing import NDArray

from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, marked, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until


def request(images: NDArray[np.uint8]) -> dict[str, object]:
    return {"inputs": [{"name": "images", "shape": images.shape, "datatype": "UINT8", "data": images.ravel().tolist()}]}


def infer(url: str, images: NDArray[np.uint8], version: int | None = None) -> httpx.Response:
    path = "/v2/models/tiny" + (f"/versions/{version}" if version else "")
    return httpx.post(f"{url}{path}/infer", json=request(images), timeout=30)


def assert_right(answer: httpx.Response, images: NDArray[np.uint8], *, seed: int = 7) -> None:
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    truth = tiny_model.expected(images, tiny_model.weights(seed=seed))
    np.testing.assert_allclose(np.array(output["data"]).reshape(output["shape"]), truth, atol=1e-5)


def test_more_images_than_the_queue_takes_are_answered_all_the_same(processes: Processes) -> None:
    """Those that are refused are tried again: in order, none lost."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    _, url = processes.ingest(max_backlog=3)
    images = random_images(12)
    assert_right(infer(url, images), images)


def test_a_queue_full_of_others_is_a_503_at_once(processes: Processes, server: Server) -> None:
    """None of the request's images was taken: nothing is thrown away, and Retry-After says when to send it again."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=1)
    _, url = processes.ingest(max_backlog=3)
    with redis.Redis.from_url(server.url) as client, concurrent.futures.ThreadPoolExecutor(1) as others:
        first = others.submit(infer, url, random_images(15))
        wait_until(lambda: client.xlen(TINY.entries) == 3, "the queue is full")
        consumer.send(signal.SIGSTOP)
        wait_until(lambda: client.xlen(TINY.entries) == 3, "the queue is full, and stays so")
        answer = infer(url, random_images(1))
        consumer.send(signal.SIGCONT)
        assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert int(answer.headers["retry-after"]) >= 1
        assert_right(first.result(), random_images(15))


def test_a_request_leaves_room_for_others(processes: Processes, server: Server) -> None:
    """Of a thousand images 64 are under way, and no more though none is answered."""
    processes.consumer(rogue="hang", version=1)
    _, url = processes.ingest(request_timeout_s=1, max_wait_s=0.9)
    images = np.concatenate([marked()[None], random_images(999)])
    answer = infer(url, images)
    assert answer.status_code == 504
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen(TINY.entries) == 64


def test_a_version_that_is_named_is_the_one_that_answers(processes: Processes) -> None:
    """While two versions are served, too, each request gets the one that it names. Who names none may get both."""
    consumers = [processes.consumer(version=version) for version in (1, 2)]
    _, url = processes.ingest()
    metadata = f"{url}/v2/models/tiny"
    wait_until(lambda: httpx.get(metadata).json()["versions"] == ["1", "2"], "both are known")
    images = random_images(20)
    for version in (1, 2):
        named = infer(url, images, version)
        assert_right(named, images, seed=6 + version)
        assert named.json()["model_version"] == str(version)
    mixed = infer(url, images)
    assert mixed.json().get("model_version") in {None, "1", "2"}
    rows = np.array(mixed.json()["outputs"][0]["data"]).reshape(20, 10)
    truths = [tiny_model.expected(images, tiny_model.weights(seed=seed)) for seed in (7, 8)]
    assert all(any(np.allclose(row, truth[at], atol=1e-5) for truth in truths) for at, row in enumerate(rows))
    consumers[0].stop()
    wait_until(lambda: httpx.get(metadata).json()["versions"] == ["2"], "one is left")
    answer = infer(url, images, 2)
    assert_right(answer, images, seed=8)
    assert answer.json()["model_version"] == "2"


def test_a_client_that_hangs_up_cancels_all_of_its_images(processes: Processes, server: Server) -> None:
    """The consumer runs none that it has not begun."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    _, url = processes.ingest()
    body = json.dumps(request(random_images(60))).encode()
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with redis.Redis.from_url(server.url) as client:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as impatient:
            impatient.sendall(head + body)
            wait_until(lambda: client.xlen(TINY.entries) >= 20, "the images are queued")
        wait_until(lambda: client.xlen(TINY.entries) == 0, "the entries have left the stream", timeout_s=2.5)
        values = [client.get(name) for name in client.scan_iter(TINY.request("*"))]
        assert sum(isinstance(value, bytes) and b'"reason": "cancelled"' in value for value in values) >= 20


def test_without_a_consumer_nothing_is_ready(processes: Processes) -> None:
    """Alive, not ready, and no model known; when the last consumer has left, its model is a 503."""
    _, url = processes.ingest(ready=False)
    assert httpx.get(f"{url}/v2/health/live").status_code == 200
    assert httpx.get(f"{url}/v2/health/ready").status_code == 503
    wait_until(lambda: infer(url, random_images(1)).status_code == 404, "Redis has answered")
    consumer = processes.consumer(version=1)
    wait_until(lambda: httpx.get(f"{url}/v2/health/ready").status_code == 200, "ready")
    consumer.stop()
    wait_until(lambda: httpx.get(f"{url}/v2/models/tiny/ready").status_code == 503, "the model is gone")
    answer = infer(url, random_images(1))
    assert (answer.status_code, list(answer.json())) == (503, ["error"])


def test_an_outage_of_redis_is_a_503_and_not_an_unknown_model(processes: Processes, own_server: Server) -> None:
    """For health, metadata and inference."""
    own_server.kill()
    _, url = processes.ingest(ready=False, redis_url=own_server.url)
    answers = [httpx.get(url + path) for path in ("/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready")]
    answers.append(infer(url, random_images(1)))
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all("Redis" in answer.json()["error"] for answer in answers)
    assert httpx.get(url + "/models").status_code == 503
