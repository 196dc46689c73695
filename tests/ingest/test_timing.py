"""`Server-Timing` and `X-Request-Id`: every answer says how long it took, and which request it answers."""

import re
import signal

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.app import create_app
from ingest.middleware.request_metrics import begin_request, current_request_id
from stream.settings import IngestSettings
from tests.support.images import encoded, scene
from tests.support.processes import Process, Processes
from tests.support.waiting import wait_until

IMAGE = encoded(scene(), "PNG")
TENSOR = {"inputs": [{"name": "images", "shape": [1, 16, 16, 3], "datatype": "UINT8", "data": [7] * 768}]}

TOTAL = r"total;dur=\d+\.\d\d"


def wait_for_line(process: Process, pattern: str) -> None:
    wait_until(lambda: re.search(pattern, process.text), f"a line of the log has {pattern}")


def test_every_answer_says_how_long_it_took_and_names_its_request(processes: Processes) -> None:
    """One image by its stages; several, tensors, what is answered later, problems and pages by their total, once.

    The request is named by its first image, or by an id of its own.
    """
    consumer = processes.consumer()
    ingest, url = processes.ingest(log_level="debug")
    one = httpx.post(f"{url}/predict", content=IMAGE)
    assert one.headers["x-request-id"] == one.json()["id"]
    assert re.fullmatch(rf"decode;\S+, queue;\S+, inference;\S+, {TOTAL}", one.headers["server-timing"])
    consumer.send(signal.SIGSTOP)
    later = httpx.post(f"{url}/predict", content=IMAGE, headers={"Prefer": "respond-async, wait=0"})
    consumer.send(signal.SIGCONT)
    answers = [
        httpx.post(f"{url}/predict", files=[("image", IMAGE), ("image", IMAGE)]),
        later,
        httpx.post(f"{url}/v2/models/tiny/infer", json=TENSOR),
        httpx.get(f"{url}/results/{one.json()['id']}"),
        httpx.post(f"{url}/predict"),
        httpx.get(f"{url}/nowhere"),
        httpx.get(f"{url}/"),
        httpx.get(f"{url}/healthz"),
    ]
    assert [answer.status_code for answer in answers] == [200, 202, 200, 200, 400, 404, 200, 200]
    for answer in answers:
        (timing,) = answer.headers.get_list("server-timing")
        assert re.fullmatch(TOTAL, timing), answer.url
    named = [answer.headers.get_list("x-request-id") for answer in answers]
    assert len({only for (only,) in named}) == len(answers), "each answer has one id, and no other answer has it"
    assert named[0][0] in {result["id"] for result in answers[0].json()["results"]}
    assert named[1] == [later.json()["id"]]
    for (name,), status in zip(named, (200, 202, 200, 200, 400, 404, 200, 200), strict=True):
        wait_for_line(ingest, rf"status={status} .* request={name}\b")


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        ("f47ac10b-58cc-4372-a567-0e02b2c3d479", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("one,two", False),
        ("one two", False),
        ("id\x1b[2J", False),
        ("caf\xe9", False),
        ("", False),
    ],
)
def test_a_client_names_its_request(sent: str, accepted: bool) -> None:
    """What could forge a log line, or fill one, is no name."""
    begin_request(sent)
    assert (current_request_id() == sent) is accepted
    assert current_request_id() == current_request_id()


def test_the_answer_and_the_log_have_the_name_that_the_client_gave(processes: Processes) -> None:
    """Beside the id of the image, which finds it at the consumers. A name that is not well-formed is replaced."""
    processes.consumer()
    ingest, url = processes.ingest(log_level="debug")
    one = httpx.post(f"{url}/predict", content=IMAGE, headers={"X-Request-Id": "shop-17"})
    refused = httpx.post(f"{url}/predict", headers={"X-Request-Id": "shop-18"})
    forged = httpx.get(f"{url}/healthz", headers={"X-Request-Id": "a, b"})
    assert [one.headers["x-request-id"], refused.headers["x-request-id"]] == ["shop-17", "shop-18"]
    assert re.fullmatch("[0-9a-f]{32}", forged.headers["x-request-id"])
    for line in (f"status=200 .* request=shop-17,{one.json()['id']}", "status=400 .* request=shop-18"):
        wait_for_line(ingest, line)


@pytest.mark.anyio
async def test_our_own_mistakes_say_so_too() -> None:
    """That answer comes from outside of all that a request passes."""

    async def broken(_request: Request) -> Response:
        raise RuntimeError("a mistake")

    app = create_app(IngestSettings())
    app.router.routes.insert(0, Route("/broken", broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/broken")
    assert answer.status_code == 500
    assert re.fullmatch(TOTAL, answer.headers["server-timing"])
    assert answer.headers["x-request-id"]
