"""A consumer's health: its own view, and the endpoints that an orchestrator asks."""

import signal
from pathlib import Path

import httpx

from consumers.health import Health
from tests.support.processes import Processes
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_consumer_that_waits_for_redis_lives_and_is_not_ready() -> None:
    """Before it joins nothing ticks: a restart would change nothing."""
    clock = Clock()
    health = Health(10, clock)
    clock.now_s += 3600
    assert (health.alive, health.ready) == (True, False)


def test_a_lease_keeper_that_does_not_tick_is_dead() -> None:
    """After several leases, not at once: a slow Redis delays it."""
    clock = Clock()
    health = Health(10, clock)
    health.ticked()
    health.heartbeat_sent()
    clock.now_s += 7
    assert (health.alive, health.ready) == (True, True)
    clock.now_s += 1
    assert (health.alive, health.ready) == (True, False)
    clock.now_s += 60
    assert (health.alive, health.ready) == (False, False)


def test_a_consumer_whose_model_failed_is_not_ready() -> None:
    """Although its heartbeat has not expired yet."""
    health = Health(10, Clock())
    health.ticked()
    health.heartbeat_sent()
    assert health.ready
    health.failed()
    assert (health.alive, health.ready) == (True, False)


def test_without_redis_a_consumer_is_alive_and_not_ready(own_server: Server, models_dir: Path, tmp_path: Path) -> None:
    """It answers on its metrics port and is ready again when Redis is available again."""
    port = free_port()

    def status(path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code

    with Processes(tmp_path, redis_url=own_server.url, models_dir=models_dir) as processes:
        processes.consumer(version=1, metrics_port=port, lease_s=1, redis_timeout_s=0.5).ready()
        wait_until(lambda: status("/readyz") == 200, "it is ready")
        assert (status("/healthz"), status("/metrics")) == (200, 200)
        own_server.signal(signal.SIGSTOP)
        wait_until(lambda: status("/readyz") == 503, "the heartbeat expires")
        assert status("/healthz") == 200
        own_server.signal(signal.SIGCONT)
        wait_until(lambda: status("/readyz") == 200, "it is ready again")
