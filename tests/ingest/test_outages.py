"""Whatever happens to Redis: ingest says so within two seconds, and goes on by itself afterwards."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis

from stream.connection.clients import AT_START
from stream.presence import HEARTBEAT_SHARE
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

IMAGE = random_images(1)[0]


def hang(server: Server, _client: redis.Redis) -> Callable[[], object]:
    server.signal(signal.SIGSTOP)
    return lambda: server.signal(signal.SIGCONT)


def die(server: Server, _client: redis.Redis) -> Callable[[], object]:
    server.kill()
    return server.start


def become_read_only(_server: Server, client: redis.Redis) -> Callable[[], object]:
    client.replicaof("127.0.0.1", "1")
    return lambda: client.replicaof("NO", "ONE")


def run_out_of_memory(_server: Server, client: redis.Redis) -> Callable[[], object]:
    client.config_set("maxmemory", "1mb")
    return lambda: client.config_set("maxmemory", "0")


def refuse_writes(_server: Server, client: redis.Redis) -> Callable[[], object]:
    client.config_set("min-replicas-to-write", "1")
    return lambda: client.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize("outage", [hang, die, become_read_only, run_out_of_memory, refuse_writes])
def test_an_outage_is_a_503_within_two_seconds_and_then_over(
    outage: Callable[[Server, redis.Redis], Callable[[], object]], processes: Processes, own_server: Server
) -> None:
    """With Retry-After; neither ingest nor the consumer is restarted."""
    processes.consumer(version=1, redis_url=own_server.url, lease_s=3, redis_timeout_s=1)
    ingest, url = processes.ingest(redis_url=own_server.url)
    with redis.Redis.from_url(own_server.url) as client, httpx.Client(base_url=url, timeout=30) as service:
        end = outage(own_server, client)
        for _ in range(3):
            began = time.monotonic()
            answer = service.post("/predict", content=png(IMAGE))
            assert (answer.status_code, time.monotonic() - began < 2) == (503, True), answer.text
            assert int(answer.headers["retry-after"]) >= 1
        end()
        wait_until(lambda: service.post("/predict", content=png(IMAGE)).status_code == 200, "it answers again")
        assert service.post("/predict", content=png(IMAGE)).json()["predictions"] == ranked(IMAGE)
    assert ingest.status is None


def test_no_image_is_refused_for_want_of_a_consumer_once_redis_is_back(
    processes: Processes, own_server: Server
) -> None:
    """The consumer's heartbeat expires during the outage. Until it sends the next one, it counts as alive."""
    processes.consumer(version=1, redis_url=own_server.url, lease_s=4, redis_timeout_s=1)
    _, url = processes.ingest(redis_url=own_server.url)
    with httpx.Client(base_url=url, timeout=30) as service:
        for _ in range(3):
            own_server.signal(signal.SIGSTOP)
            assert service.post("/predict", content=png(IMAGE)).status_code == 503
            time.sleep(4 * HEARTBEAT_SHARE)
            own_server.signal(signal.SIGCONT)
            end_s = time.monotonic() + 2
            while time.monotonic() < end_s:
                answer = service.post("/predict", content=png(IMAGE))
                assert answer.json().get("code", "") in {"", "stream_unavailable"}, answer.text
            assert answer.status_code == 200, answer.text


def test_a_consumer_that_died_in_an_outage_is_noticed(processes: Processes, own_server: Server) -> None:
    consumer = processes.consumer(version=1, redis_url=own_server.url, lease_s=2, redis_timeout_s=1)
    _, url = processes.ingest(redis_url=own_server.url)
    own_server.signal(signal.SIGSTOP)
    consumer.kill()
    wait_until(lambda: httpx.get(url + "/readyz").json().get("code") == "stream_unavailable", "ingest has noticed")
    time.sleep(1.5)  # The heartbeat expires.
    own_server.signal(signal.SIGCONT)
    wait_until(lambda: httpx.get(url + "/readyz").json().get("code") == "no_consumer", "nobody is presumed any more")


def test_a_restart_of_redis_costs_no_request(processes: Processes, own_server: Server) -> None:
    """Connections that went stale are noticed and replaced; the client sees nothing."""
    processes.consumer(version=1, redis_url=own_server.url)
    _, url = processes.ingest(redis_url=own_server.url)
    with httpx.Client(base_url=url, timeout=30) as service:
        for _ in range(3):
            assert service.post("/predict", content=png(IMAGE)).status_code == 200
            own_server.kill()
            own_server.start()


def test_an_ingest_that_has_never_met_redis_says_so(processes: Processes, tmp_path: Path) -> None:
    """And neither that nobody serves nor that there is no such model: it can't know.

    Its log has no warning of a Redis that starts with it, and one of a Redis that does not. A line has the end.
    """
    later = Server(tmp_path)
    ingest, url = processes.ingest(ready=False, redis_url=later.url, log_level="debug")
    wait_until(lambda: ingest.says("cannot refresh the model registry"), "it has tried")
    for path in ("/predict", "/predict/tiny"):
        answer = httpx.post(url + path, content=png(IMAGE))
        assert (answer.status_code, answer.json()["code"]) == (503, "stream_unavailable")

    def lines(text: str) -> list[str]:
        return [line.split()[2] for line in ingest.text.splitlines() if text in line]

    wait_until(lambda: "WARNING" in lines("cannot refresh the model registry"), "it warns")
    later.start()
    try:
        wait_until(lambda: lines("Redis answers") == ["INFO"], "it knows")
    finally:
        later.kill()
    tried = lines("cannot refresh the model registry")
    assert tried[:AT_START] == ["DEBUG"] * AT_START
    assert tried.count("WARNING") == 1


def test_an_outage_is_one_line_in_the_log(processes: Processes, own_server: Server, tmp_path: Path) -> None:
    """Not one for each attempt, by either side."""
    consumer = processes.consumer(version=1, redis_url=own_server.url)
    ingest, url = processes.ingest(redis_url=own_server.url)
    own_server.kill()
    wait_until(lambda: httpx.get(url + "/readyz").status_code == 503, "ingest has noticed")
    own_server.start()
    wait_until(lambda: httpx.get(url + "/readyz").status_code == 200, "ingest is ready again")
    assert ingest.text.count("cannot refresh the model registry") == ingest.text.count("Redis answers") == 1
    assert consumer.text.count("cannot read") == 1


def test_a_login_that_is_refused_after_an_outage_is_in_every_log(processes: Processes, own_server: Server) -> None:
    """Otherwise the log would keep to the cause before, for as long as the password is wrong."""
    consumer = processes.consumer(version=1, redis_url=own_server.url)
    ingest, url = processes.ingest(redis_url=own_server.url)
    own_server.kill()
    wait_until(lambda: ingest.says("cannot refresh the model registry"), "ingest has noticed")
    wait_until(lambda: consumer.says("cannot read"), "the consumer has noticed")
    own_server.start("--requirepass", "another")
    wait_until(lambda: ingest.says("Authentication required"), "ingest logs the cause")
    wait_until(lambda: consumer.says("Authentication required"), "the consumer logs the cause")
    wait_until(lambda: "refuses the login" in httpx.get(url + "/readyz").json()["detail"], "ingest says so")


@pytest.mark.parametrize("outage", [become_read_only, run_out_of_memory])
def test_an_outage_of_writing_alone_is_one_warning_too(
    outage: Callable[[Server, redis.Redis], Callable[[], object]], processes: Processes, own_server: Server
) -> None:
    """Where Redis still reads, only who writes can tell; it is no error, for it passes."""
    consumer = processes.consumer(version=1, redis_url=own_server.url, lease_s=2)
    ingest, url = processes.ingest(redis_url=own_server.url)
    with redis.Redis.from_url(own_server.url) as client, httpx.Client(base_url=url, timeout=30) as service:
        end = outage(own_server, client)
        for _ in range(3):
            assert service.post("/predict", content=png(IMAGE)).status_code == 503
        if outage is become_read_only:
            wait_until(lambda: consumer.says("cannot renew leases"), "the heartbeat has failed")
        unready = service.get("/readyz")
        assert (unready.status_code, unready.json()["code"]) == (503, "stream_unavailable")
        end()
        wait_until(lambda: service.get("/readyz").status_code == 200, "it is ready again, without an image")
        wait_until(lambda: service.post("/predict", content=png(IMAGE)).status_code == 200, "it answers again")
    assert ingest.text.count("images are refused") == 1
    assert consumer.text.count("cannot renew leases or send the heartbeat") == (outage is become_read_only)
    assert " ERROR " not in ingest.text + consumer.text
