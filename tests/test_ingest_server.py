"""The HTTP server around the service: its connections, its workers and its end."""

import concurrent.futures
import socket
import time

import httpx
import redis

from stream.keys import GROUP
from tests.processes import Processes
from tests.requests_direct import TINY, pictures
from tests.servers import Server
from tests.test_ingest_app import png, ranked
from tests.waiting import wait_until


def test_an_idle_connection_outlasts_its_client(processes: Processes) -> None:
    """Many clients let go after 5 s, as uvicorn does by default: now and then a request met the closing."""
    _, url = processes.ingest(ready=False, keep_alive_s=6)
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=30) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        while client.recv(65536):
            pass
        assert time.monotonic() - began > 5.5


def test_an_ingest_that_is_told_to_stop_answers_what_it_accepted(processes: Processes, server: Server) -> None:
    """SIGTERM under load: every request that was taken is answered, exit status 0."""
    processes.consumer(rogue="slow", version=1, max_batch=1)
    ingest, url = processes.ingest()
    images = pictures(10)
    with (
        httpx.Client(base_url=url, timeout=30) as service,
        concurrent.futures.ThreadPoolExecutor(10) as clients,
        redis.Redis.from_url(server.url) as client,
    ):
        answers = [clients.submit(service.post, "/predict", content=png(image)) for image in images]
        wait_until(lambda: client.xlen(TINY.entries) >= 8, "the images are queued")
        assert ingest.stop() == 0
        for answer, image in zip(answers, images, strict=True):
            assert answer.result().json()["predictions"] == ranked(image)
        assert client.xpending(TINY.entries, GROUP)["pending"] == 0


def test_several_workers_share_the_port(processes: Processes) -> None:
    """Each has its own replies; any may take any request."""
    processes.consumer(version=1)
    ingest, url = processes.ingest(workers=2)
    images = pictures(60)
    for image in images:
        assert httpx.post(url + "/predict", content=png(image)).json()["predictions"] == ranked(image)
    assert ingest.stop() == 0


def test_workers_end_when_their_parent_is_killed(processes: Processes) -> None:
    """SIGKILL of the parent: whoever is started next gets the port."""
    processes.consumer(version=1)
    doomed, url = processes.ingest(workers=2)
    doomed.kill()
    wait_until(lambda: not _connects(url), "nobody listens any more")
    processes.start("ingest", port=httpx.URL(url).port)
    wait_until(lambda: _connects(url) and httpx.get(f"{url}/readyz").status_code == 200, "the next one serves")


def _connects(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)).close()
    except OSError:
        return False
    return True
