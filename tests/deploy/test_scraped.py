"""Every panel and alert of deploy/, asked of a real Prometheus (Debian's package) that scrapes a real system."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.test_prometheus import panels
from tests.ingest.test_app import png
from tests.support.documents import ROOT
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import marked, random_images
from tests.support.redis.servers import free_port
from tests.support.waiting import wait_until

FOLDER = ROOT / "deploy/prometheus"

#: Redis fails nobody here, and errors that never happened are no series.
_MAY_BE_EMPTY = {"sum by (job, error) (rate(sluice_redis_errors_total[$__rate_interval]))"}


@pytest.fixture
def system(processes: Processes) -> tuple[Process, dict[str, str]]:
    """A doomed consumer, and where the jobs of Prometheus's configuration find ingest and another consumer."""
    port = free_port()
    doomed = processes.consumer(version=1, lease_s=2)
    processes.consumer(rogue="raise", version=1, metrics_port=port, prediction_labels=9)
    _, url = processes.ingest()
    return doomed, {"sluice-ingest": url.removeprefix("http://"), "sluice-consumer": f"127.0.0.1:{port}"}


@pytest.fixture
def prometheus(system: tuple[Process, dict[str, str]], tmp_path: Path) -> Iterator[str]:
    """A Prometheus with the configuration of deploy/, but for the addresses and the pace."""
    _, targets = system
    command = shutil.which("prometheus")
    assert command, "prometheus is needed: Debian's package prometheus"
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={path}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address={address}")
    process = Process([command, *options], dict(os.environ), tmp_path / "prometheus.log")
    try:
        wait_until(lambda: process.says("Server is ready to receive web requests"), "Prometheus is ready")
        yield f"http://{address}/api/v1"
    finally:
        process.kill()


def test_panels_and_alerts_work_on_a_real_system(system: tuple[Process, dict[str, str]], prometheus: str) -> None:
    """No expression is an error or, with work and trouble of each kind, empty; what has happened alerts."""
    doomed, targets = system
    with httpx.Client(timeout=30) as service:

        def query(expression: str) -> list[dict[str, Any]]:
            answer = service.get(f"{prometheus}/query", params={"query": expression}).json()
            assert answer["status"] == "success", (expression, answer)
            return list(answer["data"]["result"])

        wait_until(
            lambda: [one["value"][1] for one in query("up")] == ["1", "1"], "both jobs are scraped", timeout_s=60
        )
        doomed.kill()
        asked = [target["expr"] for panel in panels() for target in panel["targets"]]
        waiting = set(asked) - _MAY_BE_EMPTY
        predict = f"http://{targets['sluice-ingest']}/predict"

        def all_show_something() -> bool:
            for body in (png(random_images(1)[0]), png(marked()), b"no image"):
                service.post(predict, content=body)
            waiting.difference_update([one for one in waiting if query(_of_all(one))])
            return not waiting

        wait_until(all_show_something, f"something is in each of {waiting}", timeout_s=60)
        for expression in _MAY_BE_EMPTY:
            query(_of_all(expression))
        wait_until(
            lambda: {"SluiceDeadLetters", "SluiceConsumerDied"} <= _firing(service, prometheus), "the alerts fire"
        )
        assert _rules(service, prometheus) == {(rule, "ok") for rule in _declared()}


def _of_all(expression: str) -> str:
    """With Grafana's variables put in."""
    return expression.replace("$__rate_interval", "10s").replace("$model", ".*")


def _firing(service: httpx.Client, prometheus: str) -> set[str]:
    alerts = service.get(f"{prometheus}/alerts").json()["data"]["alerts"]
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def _rules(service: httpx.Client, prometheus: str) -> set[tuple[str, str]]:
    """Each alert, with whether it could be evaluated."""
    groups = service.get(f"{prometheus}/rules").json()["data"]["groups"]
    return {(rule["name"], rule["health"]) for group in groups for rule in group["rules"]}


def _declared() -> list[str]:
    (group,) = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule["alert"] for rule in group["rules"]]
