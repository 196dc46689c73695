"""`Server-Timing`: every answer says how long it took."""

import re
import signal

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.app import create_app
from stream.settings import IngestSettings
from tests.support.images import encoded, scene
from tests.support.processes import Processes

IMAGE = encoded(scene(), "PNG")
TENSOR = {"inputs": [{"name": "images", "shape": [1, 16, 16, 3], "datatype": "UINT8", "data": [7] * 768}]}

TOTAL = r"total;dur=\d+\.\d\d"


def test_every_answer_says_how_long_it_took(processes: Processes) -> None:
    """One image by its stages; several, tensors, what is answered later, problems and pages by their total, once."""
    consumer = processes.consumer()
    _, url = processes.ingest()
    one = httpx.post(f"{url}/predict", content=IMAGE)
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
