"""The HTTP server around the service: its connections, its workers and its end."""

import concurrent.futures
import http.client
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
import redis

from stream.keys import GROUP
from tests.ingest.test_app import png, ranked
from tests.support.processes import Process, Processes, needs_proc
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

#: States of a connection in /proc/net/tcp: established, and closed by the other end only.
_OPEN = ("01", "08")


def test_an_idle_connection_is_kept_as_long_as_the_settings_say(processes: Processes) -> None:
    """Uvicorn closes it after 5 s by default, as many clients do: now and then a request met the closing."""
    _, url = processes.ingest(ready=False, keep_alive_s=2)
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=30) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        while client.recv(65536):
            pass
        assert 1.5 < time.monotonic() - began < 4.5


def test_an_ingest_that_must_stop_answers_what_it_accepted(processes: Processes, server: Server) -> None:
    """SIGTERM under load: every request that was taken is answered, exit status 0."""
    consumer = processes.consumer(rogue="slow", version=1, max_batch=1)
    ingest, url = processes.ingest()
    images = random_images(10)
    consumer.send(signal.SIGSTOP)
    with (
        httpx.Client(base_url=url, timeout=30) as service,
        concurrent.futures.ThreadPoolExecutor(10) as clients,
        redis.Redis.from_url(server.url) as client,
    ):
        answers = [clients.submit(service.post, "/predict", content=png(image)) for image in images]
        wait_until(lambda: client.xlen(TINY.entries) >= 8, "the images are queued")
        consumer.send(signal.SIGCONT)
        assert ingest.stop() == 0
        for answer, image in zip(answers, images, strict=True):
            assert answer.result().json()["predictions"] == ranked(image)
        assert client.xpending(TINY.entries, GROUP)["pending"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_ingest_that_must_stop_responds_to_requests_on_their_way(processes: Processes, workers: int) -> None:
    """A client that sends one request after the other on its connection reads of its end in a response."""
    ingest, url = processes.ingest(ready=False, workers=workers)
    count = 16
    begun = threading.Barrier(count + 1)

    def send_until_closed() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", httpx.URL(url).port, timeout=30)
        statuses = []
        while True:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            if len(statuses) == 1:
                begun.wait(30)
            if response.will_close:
                return statuses
            time.sleep(0.01)  # The client's own work between two requests.

    with concurrent.futures.ThreadPoolExecutor(count) as clients:
        sent = [clients.submit(send_until_closed) for _ in range(count)]
        begun.wait(30)
        assert ingest.stop() == 0
        assert all(set(statuses.result()) == {200} for statuses in sent)


def test_workers_that_must_stop_refuse_new_connections_at_once(processes: Processes, server: Server) -> None:
    """A connection that nobody accepts would be reset at the end, and its client would not know why."""
    consumer = processes.consumer(version=1).ready()
    ingest, url = processes.ingest(workers=2)
    image = random_images(1)[0]
    consumer.send(signal.SIGSTOP)
    with (
        concurrent.futures.ThreadPoolExecutor(1) as clients,
        redis.Redis.from_url(server.url) as client,
    ):
        answer = clients.submit(httpx.post, f"{url}/predict", content=png(image), timeout=30)
        wait_until(lambda: client.xlen(TINY.entries) == 1, "the image is queued")
        ingest.send(signal.SIGTERM)
        wait_until(lambda: not _connects(url), "connections are refused")
        assert not answer.done()
        consumer.send(signal.SIGCONT)
        assert answer.result().json()["predictions"] == ranked(image)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_works_without_what_serving_adds(processes: Processes, workers: int) -> None:
    """Accept balancing saves time. Without it every image still gets its prediction."""
    processes.consumer(version=1).ready()
    port = free_port()
    ingest = processes.start("tests.support.programs.plain_ingest", port=port, workers=workers)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: _connects(url) and httpx.get(f"{url}/readyz", timeout=30).status_code == 200, "it is ready")
    images = random_images(20)
    for image in images:
        assert httpx.post(url + "/predict", content=png(image)).json()["predictions"] == ranked(image)
    assert ingest.stop() == 0


def test_several_workers_share_the_port(processes: Processes) -> None:
    """Each has its own replies; any may take any request."""
    processes.consumer(version=1).ready()
    ingest, url = processes.ingest(workers=2)
    images = random_images(60)
    for image in images:
        assert httpx.post(url + "/predict", content=png(image)).json()["predictions"] == ranked(image)
    assert ingest.stop() == 0


@needs_proc
def test_connections_made_at_once_are_shared_out(processes: Processes) -> None:
    """The process that wakes first would take them all, and a client that keeps them would have half of the cores."""
    ingest, url = processes.ingest(ready=False, workers=2)
    port = httpx.URL(url).port or 0
    wait_until(lambda: _most_of_eight(ingest, port) < 8, "both have begun")
    assert statistics.median(_most_of_eight(ingest, port) for _ in range(9)) <= 5
    assert ingest.stop() == 0


@needs_proc
def test_who_takes_a_dead_workers_place_gets_its_share(processes: Processes) -> None:
    """The number of connections that the dead one had is not held against it."""
    ingest, url = processes.ingest(ready=False, workers=2)
    port = httpx.URL(url).port or 0
    _wait_until_none(ingest, port)
    with socket.create_connection(("127.0.0.1", port)):
        wait_until(lambda: any(_accepted(ingest, port).values()), "it is accepted")
        (doomed,) = (pid for pid, count in _accepted(ingest, port).items() if count)
        os.kill(doomed, signal.SIGKILL)
    wait_until(lambda: doomed not in _accepted(ingest, port), "the dead one is gone")
    wait_until(lambda: _most_of_eight(ingest, port) <= 5, "two share again")


def _most_of_eight(ingest: Process, port: int) -> int:
    """Of eight connections made at once, how many the same worker has."""
    _wait_until_none(ingest, port)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: sum(_accepted(ingest, port).values()) == 8, "all are accepted")
        return max(_accepted(ingest, port).values())


def _wait_until_none(ingest: Process, port: int) -> None:
    wait_until(lambda: not any(_accepted(ingest, port).values()), "all earlier connections are closed")


def _accepted(ingest: Process, port: int) -> dict[int, int]:
    """Connections of this local port that each worker has open, by its process id, as Linux tells them.

    One that only the client has closed is among them: its worker still counts it.
    """
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] in _OPEN}
    return {worker: len(sockets & set(_descriptors(worker))) for worker in ingest.workers}


def _descriptors(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError, PermissionError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                yield str(descriptor.readlink())


def test_workers_end_when_their_parent_is_killed(processes: Processes) -> None:
    """SIGKILL of the parent: the next process gets the port."""
    processes.consumer(version=1).ready()
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
