"""`image_url` in the JSON of `/predict`, against real processes."""

import base64
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ingest.test_app import png, ranked
from tests.support.models import tiny_model
from tests.support.processes import on_own_server
from tests.support.recorded_server import Recorded, body, serve
from tests.support.redis.requests_direct import random_images

ROOT = Path(__file__).parents[3]

IMAGE, OTHER = random_images(2)
FILE = png(IMAGE)
TEXT = base64.b64encode(png(OTHER)).decode()


@pytest.fixture(scope="module")
def images() -> Iterator[Recorded]:
    with serve({"/a.png": body(FILE), "/text.png": body(b"no image"), "/page": body(b"<html>", "text/html")}) as server:
        yield server


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    """An ingest that may fetch from this machine, one that may fetch from public addresses, and one that does not."""
    folder = tmp_path_factory.mktemp("image_url")
    tiny_model.build(folder / "models")
    with on_own_server(folder, folder / "models") as processes:
        processes.consumer()
        local = {"outbound_networks": "127.0.0.0/8", "outbound_http": True}
        urls = [
            processes.ingest(**options)[1]
            for options in ({"fetch_urls": True, **local}, {"fetch_urls": True, "outbound_http": True}, local)
        ]
        clients = [httpx.Client(base_url=url, timeout=30) for url in urls]
        yield clients
        for client in clients:
            client.close()


def test_an_image_by_url_gets_the_prediction_of_its_upload(clients: list[httpx.Client], images: Recorded) -> None:
    """With the options of the JSON, and also if nobody waits for it."""
    document = {"image_url": f"{images.url}/a.png", "top": 3}
    assert clients[0].post("/predict", json=document).json()["predictions"] == ranked(IMAGE, 3)
    waited = clients[0].post("/predict", json=document, headers={"Prefer": "wait=20"})
    assert waited.json()["predictions"] == ranked(IMAGE, 3)


def test_urls_and_base64_can_be_mixed(clients: list[httpx.Client], images: Recorded) -> None:
    """In order; each that cannot be fetched or is no image fails alone, as if it were uploaded, and uses up no key."""
    wrong = {
        f"{images.url}/text.png": (415, "unsupported_media_type"),
        f"{images.url}/missing": (422, "image_not_fetched"),
        f"{images.url}/page": (415, "unsupported_media_type"),
        "https://[::1]": (400, "url_not_allowed"),
        "data:image/png;base64,": (400, "url_not_allowed"),
    }
    items: list[object] = [{"image_url": url} for url in wrong]
    items[2:2] = [TEXT, {"image_url": f"{images.url}/a.png"}]
    for headers in ({}, {"Idempotency-Key": "mixed"}):
        response = clients[0].post("/predict", json={"images": items}, headers=headers)
        assert response.status_code == 200, response.text
        results = response.json()["results"]
        assert [one.pop("predictions") for one in results[2:4]] == [ranked(OTHER), ranked(IMAGE)]
        problems = [one["error"] for one in results[:2] + results[4:]]
        assert [(one["status"], one["code"]) for one in problems] == list(wrong.values())


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"image_url": "{url}/missing"}, 422, "image_not_fetched"),
        ({"image_url": "{url}/page"}, 415, "unsupported_media_type"),
        ({"image_url": "ftp://example.com"}, 400, "url_not_allowed"),
        ({"image_url": 7}, 400, "bad_parameter"),
        ({"image_url": None}, 400, "bad_parameter"),
        ({"image_url": "{url}/a.png", "image": TEXT}, 400, "bad_parameter"),
        ({"images": [{"image_url": "{url}/a.png", "top": 3}]}, 400, "bad_parameter"),
        ({"images": [{}]}, 400, "bad_parameter"),
        ({"images": ["https://example.com/cat.jpg"]}, 400, "bad_parameter"),
        ({"images": [{"image_url": "https://[::1]"}]}, 400, "url_not_allowed"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(
    clients: list[httpx.Client], images: Recorded, document: dict[str, object], status: int, code: str
) -> None:
    """In the problem's code and detail."""
    text = httpx.Request("POST", "http://x", json=document).content.replace(b"{url}", images.url.encode())
    response = clients[0].post("/predict", content=text, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    if document.get("images") == ["https://example.com/cat.jpg"]:
        assert response.json()["detail"] == 'The image is a URL. Send it as {"image_url": "https://..."}.'


def test_ingest_connects_to_no_private_address(clients: list[httpx.Client], images: Recorded) -> None:
    """Though the same URL is fine where the network is allowed."""
    before = len(images.connections)
    document = {"image_url": f"{images.url.replace('127.0.0.1', '0x7f.1')}/a.png"}
    refused = clients[1].post("/predict", json=document)
    assert (refused.status_code, refused.json()["code"]) == (422, "image_not_fetched")
    assert len(images.connections) == before
    assert clients[0].post("/predict", json=document).status_code == 200
    assert len(images.connections) == before + 1


def test_it_is_off_by_default(clients: list[httpx.Client], images: Recorded) -> None:
    """The problem and the document say so."""
    response = clients[2].post("/predict", json={"image_url": f"{images.url}/a.png"})
    assert response.status_code == 400
    assert "fetch_urls is off" in response.json()["detail"]
    assert ["image_url" in client.get("/openapi.json").text for client in clients] == [True, True, False]


def test_noise_in_urls_is_a_problem_and_no_connection(clients: list[httpx.Client], images: Recorded) -> None:
    """A URL with pieces put in, cut out and doubled; the local listener belongs to the only address that it names."""
    chance = random.Random(8)
    pieces = ["@", "\\", "%00", "//", ":", "[::1]", "#", "?", "\r\n", "。", "127.0.0.1", "localhost", "\ud800", "é"]
    before, codes = len(images.connections), Counter[int]()
    for _ in range(300):
        url = f"{images.url}/a.png"
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(url))
            url = url[:start] + chance.choice(pieces) + url[start + chance.choice((0, 0, 1, 4)) :]
        # Lone surrogates can be written in JSON, though not in UTF-8.
        text = json.dumps({"image_url": url})
        response = clients[1].post("/predict", content=text, headers={"Content-Type": "application/json"})
        codes[response.status_code] += 1
    assert set(codes) <= {400, 422}
    assert len(codes) == 2
    assert len(images.connections) == before


def test_without_httpx_only_what_needs_it_is_refused(tmp_path: Path) -> None:
    """With the command that installs it; and the application is made without it."""
    for module in ("httpcore", "httpx"):
        (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}')\n")
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    start = [sys.executable, "-m", "ingest", "--fetch-urls=true"]
    refused = subprocess.run(start, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "pip install 'sluice-serving[urls]'" in refused.stderr) == (2, True), refused.stderr
    make = "import ingest.app, stream.settings; ingest.app.create_app(stream.settings.IngestSettings())"
    subprocess.run([sys.executable, "-c", make], env=variables, timeout=60, check=True)
