"""The examples in other languages, run as a user runs them, against a real service."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.support import browser
from tests.support.models import mean_model, tiny_model
from tests.support.processes import ROOT, on_own_server
from tests.support.recorded_server import body, in_thread, serve
from tests.support.redis.servers import free_port
from tests.support.waiting import wait_until

EXAMPLES = ROOT / "examples"
CAT = EXAMPLES / "cat.jpg"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The origin of a site that shows examples/browser.html."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(EXAMPLES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[str]:
    """A service with a model of three classes, which the site may use."""
    folder = tmp_path_factory.mktemp("service")
    tiny_model.build(folder / "models", classes=3)
    with on_own_server(folder, folder / "models") as processes:
        processes.consumer()
        yield processes.ingest(cors_origins=site)[1]


@pytest.fixture(scope="module")
def values_url(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[str]:
    """A service with a model that gives three values."""
    folder = tmp_path_factory.mktemp("values")
    mean_model.build(folder / "models", "mean", output_kind="values", channels=3)
    with on_own_server(folder, folder / "models") as processes:
        processes.consumer(model="mean")
        yield processes.ingest(model="mean", cors_origins=site)[1]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "damaged.jpg"
    path.write_bytes(CAT.read_bytes()[:700])
    return path


def is_ranking(text: str) -> bool:
    return re.fullmatch(r"1\. \w+: 0\.\d{4}\n2\. \w+: 0\.\d{4}\n3\. \w+: 0\.\d{4}\n", text) is not None


def test_the_simple_request_works_for_three_classes(url: str) -> None:
    """Fewer than the five labels that are the default."""
    done = run(sys.executable, EXAMPLES / "simple_request.py", CAT, "--url", url)
    assert is_ranking(done.stdout), done


def test_every_client_prints_values(values_url: str) -> None:
    """Of a regression or an embedding, which has no labels."""
    done = run(sys.executable, EXAMPLES / "simple_request.py", CAT, "--url", values_url)
    assert re.fullmatch(r"(\d\. value \d: \d+\.\d{4}\n){3}", done.stdout), done
    done = run(sys.executable, EXAMPLES / "async_request.py", "--url", values_url, CAT)
    assert re.fullmatch(rf"{CAT}: \d+\.\d{{4}} \d+\.\d{{4}} \d+\.\d{{4}}\n", done.stdout), done
    if shutil.which("node"):
        done = run("node", EXAMPLES / "node_request.mjs", CAT, values_url)
        assert re.fullmatch(r"(\d\. value \d: \d+\.\d{4}\n){3}", done.stdout), done


def test_every_client_sends_its_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the environment, as a bearer."""
    monkeypatch.setenv("SLUICE_API_KEY", "sesame")
    answer = body(json.dumps({"success": True, "predictions": [{"label": "cat", "probability": 0.5}]}).encode())
    with serve({"/predict": answer}) as recorded:
        commands = [
            (sys.executable, EXAMPLES / "simple_request.py", CAT, "--url", recorded.url),
            (sys.executable, EXAMPLES / "async_request.py", CAT, "--url", recorded.url),
            *([("node", EXAMPLES / "node_request.mjs", CAT, recorded.url)] if shutil.which("node") else []),
            *([("java", EXAMPLES / "SimpleRequest.java", CAT, recorded.url)] if shutil.which("javac") else []),
        ]
        for command in commands:
            assert "0.5" in run(*command).stdout
    keys = [{name.lower(): value for name, value in post.headers.items()}["authorization"] for post in recorded.posts]
    assert keys == ["Bearer sesame"] * len(commands)


@pytest.mark.browser
@browser.needed
def test_a_browser_shows_values(values_url: str, site: str, tmp_path: Path) -> None:
    (tmp_path / "chromium").mkdir()
    with browser.chromium(tmp_path / "chromium") as page:
        page.open(f"{site}/browser.html?url={values_url}")
        page.type("#image", str(CAT))
        wait_until(lambda: len(page.texts("#labels li")) == 3, "the values are there")


def test_images_are_queued_and_polled(url: str, damaged: Path) -> None:
    """A second run finds the same results. A damaged image does not stop the others."""
    command = (sys.executable, EXAMPLES / "async_request.py", "--url", url, CAT)
    first, second = run(*command), run(*command)
    assert re.fullmatch(rf"{CAT}: class_\d 0\.\d{{4}}\n", first.stdout), first
    assert second.stdout == first.stdout
    mixed = run(*command, damaged)
    assert mixed.returncode == 1
    assert mixed.stdout.startswith(first.stdout)
    assert f"{damaged}: 422 Damaged image: " in mixed.stdout


def test_an_image_that_gets_no_response_is_sent_again_under_its_key() -> None:
    """A broken connection, and a deadline that has passed, at once or while polling; then it is answered."""
    done = json.dumps({"success": True, "predictions": [{"label": "cat", "probability": 0.5}]}).encode()

    def broken(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    late, queued = body(b"{}", status=504), body(json.dumps({"location": "/results/1"}).encode(), status=202)
    attempts = iter([broken, late, queued, body(done)])
    with serve({"/predict": lambda handler: next(attempts)(handler), "/results/1": late}) as recorded:
        found = run(sys.executable, EXAMPLES / "async_request.py", CAT, "--url", recorded.url)
    assert found.stdout == f"{CAT}: cat 0.5000\n", found
    assert len(recorded.posts) == 4
    assert len({(post.headers["Idempotency-Key"], post.body) for post in recorded.posts}) == 1


def test_an_image_that_redis_has_damaged_is_sent_again_under_its_key() -> None:
    """Also if a poll says so: to poll again would not help."""
    queued = {"success": True, "status": "queued", "id": "x", "location": "/results/x"}
    damaged = {"success": False, "title": "Damaged", "detail": "Its checksum does not fit.", "code": "damaged_in_redis"}
    done = {"success": True, "predictions": [{"label": "cat", "probability": 0.5}]}
    attempts = iter([body(json.dumps(queued).encode(), status=202), body(json.dumps(done).encode())])
    routes = {
        "/predict": lambda handler: next(attempts)(handler),
        "/results/x": body(json.dumps(damaged).encode(), status=500),
    }
    with serve(routes) as recorded:
        found = run(sys.executable, EXAMPLES / "async_request.py", CAT, "--url", recorded.url)
    assert found.stdout == f"{CAT}: cat 0.5000\n", found
    assert len({post.headers["Idempotency-Key"] for post in recorded.posts}) == 1


def test_every_client_says_in_a_line_what_it_cannot_do() -> None:
    """Without an image, without a service, and without a file: no trace of its calls."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    commands = [
        *([("node", EXAMPLES / "node_request.mjs")] if shutil.which("node") else []),
        *([("java", EXAMPLES / "SimpleRequest.java")] if shutil.which("javac") else []),
    ]
    for command in commands:
        for arguments in ((), (CAT, nowhere), (EXAMPLES / "none.jpg", nowhere)):
            done = run(*command, *arguments)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
            assert arguments != (CAT, nowhere) or nowhere in done.stderr, done


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_node(url: str, damaged: Path) -> None:
    """Ranked labels, or the reason on standard error."""
    done = run("node", EXAMPLES / "node_request.mjs", CAT, url)
    assert is_ranking(done.stdout), done
    refused = run("node", EXAMPLES / "node_request.mjs", damaged, url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "422 Damaged image" in refused.stderr


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java development kit")
def test_java(url: str, damaged: Path) -> None:
    """The JSON of the response, or the problem on standard error."""
    done = run("java", EXAMPLES / "SimpleRequest.java", CAT, url)
    assert len(json.loads(done.stdout)["predictions"]) == 3, done
    refused = run("java", EXAMPLES / "SimpleRequest.java", damaged, url)
    assert refused.returncode == 1
    assert refused.stderr.startswith("422 ")


@pytest.mark.browser
@browser.needed
def test_a_browser_on_another_site(url: str, site: str, damaged: Path, tmp_path: Path) -> None:
    """The site is one of cors_origins."""
    (tmp_path / "chromium").mkdir()
    with browser.chromium(tmp_path / "chromium") as page:
        page.open(f"{site}/browser.html?url={url}")
        page.type("#image", str(CAT))
        wait_until(lambda: len(page.texts("#labels li")) == 3, "the labels are there")
        page.type("#image", str(damaged))
        wait_until(lambda: "Damaged image" in page.text("#problem"), "the problem is shown")


def test_the_receiver_prints_what_it_is_sent() -> None:
    """Once for each webhook-id, and only with the right signature."""
    secret = "whsec_" + "A" * 32
    port = free_port()
    command = [sys.executable, str(ROOT / "examples/receive_webhook.py"), "--port", str(port)]
    environment = {**os.environ, "WEBHOOK_SECRET": secret}
    failed = {"type": "prediction.failed", "data": {"id": "x", "title": "Cancelled", "detail": "It was cancelled."}}
    succeeded = "prediction.succeeded"
    values = {"type": succeeded, "data": {"id": "y", "values": [0.5, 2]}}
    nothing = {"type": succeeded, "data": {"id": "z", "predictions": []}}
    now = datetime.now(UTC)

    def post(document: dict[str, Any], signature: str = "") -> int:
        text, webhook_id = json.dumps(document), f"msg_{document['data']['id']}"
        signature = signature or Webhook(secret).sign(webhook_id, now, text)
        headers = {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        try:
            return httpx.post(f"http://127.0.0.1:{port}/", content=text, headers=headers).status_code
        except httpx.TransportError:
            return 0

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        wait_until(lambda: post(failed, f"v1,{'A' * 43}=") == 401, "it listens, and refuses a wrong signature")
        assert [post(one) for one in (failed, failed, values, nothing)] == [204, 204, 204, 204]
        it.terminate()
        assert it.stdout
        lines = ["x: Cancelled: It was cancelled.", "y: 0.5000 2.0000", "z: no label reaches the threshold"]
        assert it.stdout.read().splitlines() == lines
        assert it.stderr
        assert it.stderr.read().count("the signature does not fit WEBHOOK_SECRET: ") == 1
    for wrong in ({}, {"WEBHOOK_SECRET": "whsec_a"}, {"WEBHOOK_SECRET": "whsec_?"}):
        done = subprocess.run(command, env=os.environ | wrong, check=False, capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
    assert "usage:" in run(*command, "--help").stdout
