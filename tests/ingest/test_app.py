"""The service as its users see it: real HTTP over a socket, real processes behind."""

import base64
import concurrent.futures
import io
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from numpy.typing import NDArray
from PIL import Image

from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

#: Those too that share a service, whose server is no fixture.
pytestmark = pytest.mark.server


def png(image: NDArray[np.uint8]) -> bytes:
    """A lossless file of the image, of the model's own size: what arrives at the model is known exactly."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def ranked(image: NDArray[np.uint8], top: int = 5, *, seed: int = 7) -> list[dict[str, object]]:
    (truth,) = tiny_model.expected(image[None], tiny_model.weights(seed=seed))
    best = np.argsort(-truth, kind="stable")[:top]
    return [{"label": f"class_{index}", "probability": pytest.approx(float(truth[index]), abs=1e-5)} for index in best]


#: httpx closes what idles beyond 20 connections, now and then one that another thread was just given.
KEPT = httpx.Limits(max_keepalive_connections=100)


@pytest.fixture(scope="module")
def service(url: str) -> Iterator[httpx.Client]:
    """One ingest and one consumer of the tiny model."""
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_one_image_gets_its_labels(service: httpx.Client) -> None:
    """By multipart as curl -F sends it, and as the bare body."""
    (image,) = random_images(1)
    for answer in (
        service.post("/predict", files={"image": ("cat.png", png(image), "image/png")}),
        service.post("/predict", content=png(image), headers={"content-type": "image/png"}),
        service.post("/predict/tiny", content=png(image)),
    ):
        assert answer.status_code == 200
        body = answer.json()
        assert body.pop("id").isalnum()
        assert body == {"success": True, "predictions": ranked(image), "model": "tiny", "version": "1"}
        assert "inference;dur=" in answer.headers["server-timing"]
        assert answer.headers["x-sluice-provider"] == "CPUExecutionProvider"


def test_every_json_response_ends_with_a_newline(service: httpx.Client) -> None:
    """Else a shell's prompt lands behind it. Routes and protocols, problems included; the length counts it."""
    (image,) = random_images(1)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 16, 16, 3], "data": image.ravel().tolist()}
    instances = {"instances": [{"b64": base64.b64encode(png(image)).decode()}]}
    paths = ["/healthz", "/readyz", "/models", "/models/tiny/labels", "/openapi.json", "/v1/models", "/v2", "/nowhere"]
    responses = [service.get(path) for path in [*paths, "/v2/nowhere", "/v1/models/other", "/v2/models/tiny"]]
    responses += [service.post("/predict", content=content) for content in (png(image), png(image)[:90])]
    responses += [
        service.post("/predict", content=png(image), headers={"Prefer": "respond-async"}),
        service.post("/v1/models/tiny:predict", json=instances),
        service.post("/v2/models/tiny/infer", json={"inputs": [tensor]}),
    ]
    assert {response.status_code for response in responses} <= {200, 202, 404, 422}
    for response in responses:
        assert response.content.endswith((b"}\n", b"]\n")), response.url
        assert response.headers["content-length"] == str(len(response.content))
        response.json()


def test_several_images_are_answered_in_the_order_sent(service: httpx.Client) -> None:
    """One that fails has its error in its place, and spoils no other."""
    images = random_images(3)
    files = [("image", (f"{number}.png", png(image))) for number, image in enumerate(images)]
    files.insert(1, ("image", ("broken.png", png(images[0])[:100])))
    body = service.post("/predict", files=files).json()
    assert body["success"] is True
    assert [one["filename"] for one in body["results"]] == ["0.png", "broken.png", "1.png", "2.png"]
    broken = body["results"].pop(1)
    assert broken["success"] is False
    assert broken["error"]["status"] == 422
    assert [one["predictions"] for one in body["results"]] == [ranked(image) for image in images]


@pytest.mark.parametrize("top", [1, 3, 10])
def test_top_says_how_many_labels_are_wanted(service: httpx.Client, top: int) -> None:
    """From one to all classes."""
    (image,) = random_images(1)
    answer = service.post("/predict", params={"top": top}, content=png(image))
    assert answer.json()["predictions"] == ranked(image, top)


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        ("/predict?top=0", None, 400, "bad_parameter"),
        ("/predict?treshold=0.5", None, 400, "bad_parameter"),
        ("/predict?top=11", None, 400, "bad_parameter"),
        ("/predict?top=many", None, 400, "bad_parameter"),
        ("/predict/nowhere", None, 404, "unknown_model"),
        ("/predict", b"", 400, "no_image"),
        ("/predict", b"This is a text, not an image.", 415, "unsupported_media_type"),
        ("/nowhere", b"", 404, "not_found"),
    ],
)
def test_a_wrong_request_learns_what_is_wrong(
    service: httpx.Client, path: str, content: bytes | None, status: int, code: str
) -> None:
    """RFC 9457 problem documents, with the status in them, and `success` false."""
    answer = service.post(path, content=png(random_images(1)[0]) if content is None else content)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["success"] is False
    assert problem["detail"]


def test_json_without_its_header_learns_of_it(service: httpx.Client) -> None:
    """`curl -d @file.json` calls it a form. With the header, the same body is read as JSON."""
    body = b' {"image": "' + base64.b64encode(png(random_images(1)[0])) + b'"}'
    for header in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = service.post("/predict", content=body, headers=header)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert "looks like JSON" in answer.json()["detail"]
        assert "Content-Type: application/json" in answer.json()["detail"]
    assert service.post("/predict", content=body, headers={"Content-Type": "application/json"}).status_code == 200


def test_methods_that_make_no_sense_are_refused(service: httpx.Client) -> None:
    """GET on /predict says what to do instead."""
    answer = service.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"] == "GET is not supported here. Use POST."
    lost = service.get("/result/1").json()["detail"]
    assert lost == "There is no '/result/1' here. /openapi.json lists what there is."


def test_many_clients_and_consumers_and_each_image_is_classified_once(processes: Processes, server: Server) -> None:
    """2,000 requests from 32 clients against 3 consumers: 2,000 right answers."""
    for _ in range(3):
        processes.consumer(version=1)
    _, url = processes.ingest()
    images = random_images(2000)

    def ask(image: NDArray[np.uint8]) -> list[dict[str, object]]:
        answer = client.post("/predict", content=png(image))
        assert answer.status_code == 200, answer.text
        predictions: list[dict[str, object]] = answer.json()["predictions"]
        return predictions

    with (
        httpx.Client(base_url=url, timeout=30, limits=KEPT) as client,
        concurrent.futures.ThreadPoolExecutor(32) as clients,
    ):
        for predictions, image in zip(clients.map(ask, images), images, strict=True):
            assert predictions == ranked(image)
    with redis.Redis.from_url(server.url) as direct:
        assert direct.hgetall(TINY.counters) == {b"completed": b"2000"}
        assert direct.xlen(TINY.entries) == 0


def test_a_client_that_hangs_up_cancels_its_work(processes: Processes, server: Server) -> None:
    """The consumer never runs it."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    _, url = processes.ingest()
    body = png(random_images(1)[0])
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with redis.Redis.from_url(server.url) as client:
        with (
            httpx.Client(base_url=url, timeout=30, limits=KEPT) as service,
            concurrent.futures.ThreadPoolExecutor(30) as others,
        ):
            busy = [others.submit(service.post, "/predict", content=body) for _ in range(30)]
            wait_until(lambda: len(_requests(client)) == 30, "the consumer is busy")
            with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as impatient:
                impatient.sendall(head + body)
                wait_until(lambda: len(_requests(client)) == 31, "the image is queued")
            wait_until(lambda: _cancelled(client) == 1, "the request is marked as cancelled")
            assert all(one.result().status_code == 200 for one in busy)
            gone = 'sluice_requests_total{route="/predict",status="499"} 1.0'
            wait_until(lambda: gone in service.get("/metrics").text, "the request counts as nobody's")
        wait_until(lambda: client.xlen(TINY.entries) == 0, "the entry has left the stream")
        assert b'"reason": "cancelled"' in b"".join(_requests(client))


def test_entries_say_that_more_will_follow(processes: Processes, server: Server) -> None:
    """So that consumers take them together; one that comes alone says nothing."""
    consumer = processes.consumer(version=1, lease_s=60)
    _, url = processes.ingest(decode_threads=1, lease_s=60)
    consumer.send(signal.SIGSTOP)
    with (
        redis.Redis.from_url(server.url) as client,
        httpx.Client(base_url=url, timeout=30, limits=KEPT) as service,
        concurrent.futures.ThreadPoolExecutor(31) as clients,
    ):
        sent = [clients.submit(service.post, "/predict", content=png(random_images(1)[0]))]
        wait_until(lambda: len(_followed(client)) == 1, "the image is queued")
        assert _followed(client) == [False]
        sent += [clients.submit(service.post, "/predict", content=png(random_images(1)[0])) for _ in range(30)]
        wait_until(lambda: len(_followed(client)) == 31, "the images are queued")
        assert any(_followed(client))
        consumer.send(signal.SIGCONT)
        assert [one.result().status_code for one in sent] == [200] * 31


def _followed(client: redis.Redis) -> list[bool]:
    """For each entry whether it says that more follow."""
    entries: Any = client.xrange(TINY.entries)
    return [b"more" in fields for _, fields in entries]


def _requests(client: redis.Redis) -> list[bytes]:
    return [value for name in client.scan_iter(TINY.request("*")) if isinstance(value := client.get(name), bytes)]


def _cancelled(client: redis.Redis) -> int:
    return sum(value.split(b" ")[0] == b"cancelled" for value in _requests(client))


def test_a_port_in_use_is_a_clear_error(processes: Processes, service: httpx.Client) -> None:
    """Exit status 2 and one line."""
    second = processes.start("ingest", port=service.base_url.port)
    assert second.wait() == 2
    assert "in use" in second.text
