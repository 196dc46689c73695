"""`/metrics` of ingest and of consumers: right figures, valid exposition, and a response while Redis is unavailable."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.test_prometheus import promtool
from tests.ingest.test_app import png
from tests.support.processes import Processes
from tests.support.redis.requests_direct import marked, random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

Labels = tuple[tuple[str, str], ...]


def figures(url: str) -> dict[tuple[str, Labels], float]:
    """All samples of a scrape, which must be what Prometheus calls good."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    checked = promtool("check", "metrics", given=text)
    assert checked.returncode == 0, checked.stderr + text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(url: str, name: str, **labels: str) -> float | None:
    return figures(url).get((name, tuple(sorted(labels.items()))))


def test_requests_are_counted_by_route_and_status(processes: Processes) -> None:
    """Refused ones as well, and invented paths as one."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    for image in random_images(5):
        assert httpx.post(f"{url}/predict", content=png(image)).status_code == 200
    broken = [("image", ("a.png", png(random_images(1)[0]))), ("image", ("b.png", b"no image"))]
    httpx.post(f"{url}/predict/tiny", files=broken)
    for path in ("nowhere", "elsewhere"):
        httpx.get(f"{url}/{path}")
    found = figures(url)
    assert found["sluice_requests_total", (("route", "/predict"), ("status", "200"))] == 5
    assert found["sluice_requests_total", (("route", "/predict/{model}"), ("status", "200"))] == 1
    assert found["sluice_requests_total", (("route", "none"), ("status", "404"))] == 2
    assert found["sluice_problems_total", (("code", "unsupported_media_type"),)] == 1
    assert found["sluice_request_duration_seconds_count", ()] == 6
    counts = [found["sluice_stage_duration_seconds_count", (("stage", stage),)] for stage in
              ("decode", "queue", "inference", "reply")]  # fmt: skip
    assert counts == [7, 6, 6, 6]
    assert found["sluice_images_in_flight", ()] == 0


def test_the_stages_of_an_image_add_up_to_its_time(processes: Processes) -> None:
    """Their sums are no more than the requests' time, and most of it."""
    processes.consumer(rogue="slow", version=1)
    _, url = processes.ingest()
    for image in random_images(4):
        httpx.post(f"{url}/predict", content=png(image))
    wait_until(lambda: figures(url)["sluice_request_duration_seconds_count", ()] == 4, "each worker has written")
    found = figures(url)
    stages = sum(value for (name, _), value in found.items() if name == "sluice_stage_duration_seconds_sum")
    whole = found["sluice_request_duration_seconds_sum", ()]
    assert 4 * 0.05 < stages <= whole < 1.2 * stages


def test_the_group_is_seen_at_each_ingest(processes: Processes) -> None:
    """Consumers with their provider and state, the images by how they ended; a dead consumer is shown as dead."""
    consumer = processes.consumer(version=1, lease_s=1.5, redis_timeout_s=1)
    _, url = processes.ingest(lease_s=1.5, redis_timeout_s=1)
    httpx.post(f"{url}/predict", content=png(random_images(1)[0]))
    found = figures(url)
    about = {"model": "tiny", "version": "1", "provider": "CPUExecutionProvider"}
    assert found["sluice_group_events_total", (("event", "completed"), ("model", "tiny"))] == 1
    assert found["sluice_group_events_total", (("event", "dead_letter"), ("model", "tiny"))] == 0
    assert found["sluice_living_consumers", (("model", "tiny"),)] == 1
    assert found["sluice_backlog_entries", (("model", "tiny"),)] == 0
    assert found["sluice_redis_up", ()] == 1
    consumer.kill()
    wait_until(lambda: figure(url, "sluice_consumers", **about, state="dead") == 1, "the consumer is shown as dead")
    assert figure(url, "sluice_living_consumers", model="tiny") == 0


def test_a_consumer_shows_its_own_figures(processes: Processes) -> None:
    """Batches, waits, what failed, the model and where it runs."""
    port = free_port()
    processes.consumer(rogue="raise", version=1, metrics_port=port)
    _, url = processes.ingest()
    files = [("image", (f"{number}.png", png(image))) for number, image in enumerate([*random_images(8), marked()])]
    assert httpx.post(f"{url}/predict", files=files, timeout=30).status_code == 200
    found = figures(f"http://127.0.0.1:{port}")
    assert found["sluice_consumer_images_total", ()] == 8
    assert found["sluice_consumer_failed_total", ()] == 1
    interactive = (("class", "interactive"),)
    assert found["sluice_batch_images_sum", ()] == found["sluice_queue_seconds_count", interactive] == 8
    assert found["sluice_batch_images_count", ()] == found["sluice_inference_seconds_count", ()]
    assert found["sluice_inference_seconds_sum", ()] > 0
    assert found["sluice_model_loads_total", ()] == 1
    assert found["sluice_consumer_held_entries", ()] == 0
    info = (("model", "tiny"), ("precision", "fp32"), ("provider", "CPUExecutionProvider"), ("version", "1"))
    assert found["sluice_consumer_info", info] == 1
    assert not any(name.startswith("sluice_prediction") for name, _ in found), "labels are private unless asked for"
    assert figure(url, "sluice_dead_letters", model="tiny") == 1


def test_a_metrics_port_in_use_is_reported(processes: Processes) -> None:
    """Exit status 2 and one line, as for every wrong setting."""
    port = free_port()
    processes.consumer(version=1, metrics_port=port).ready()
    second = processes.start("consumers", version=1, metrics_port=port)
    assert second.wait() == 2
    assert f"metrics_port {port}: Address already in use. Give each consumer of a host its own" in second.text
    assert "Traceback" not in second.text


def test_each_worker_answers_for_all(processes: Processes) -> None:
    """Whichever answers, the counts are those of both; of one that was killed they stay, and it holds nothing."""
    consumer = processes.consumer(version=1).ready()
    ingest, url = processes.ingest(workers=2)
    for image in random_images(20):
        assert httpx.post(f"{url}/predict", content=png(image)).status_code == 200

    def answered() -> set[float | None]:
        return {figure(url, "sluice_requests_total", route="/predict", status="200") for _ in range(8)}

    # Counted once the answer has gone out: another worker may be asked in between.
    wait_until(lambda: answered() == {20}, "both have counted the last one")
    consumer.send(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as client:
        unanswered = client.submit(httpx.post, f"{url}/predict", content=png(random_images(1)[0]), timeout=30)
        wait_until(lambda: figure(url, "sluice_images_in_flight") == 1, "an image is in flight")
        for worker in ingest.workers:
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            unanswered.result()
    assert figure(url, "sluice_images_in_flight") == 0
    assert figure(url, "sluice_requests_total", route="/predict", status="200") == 20
    consumer.send(signal.SIGCONT)


def test_a_scrape_does_not_wait_for_redis(own_server: Server, models_dir: Path, tmp_path: Path) -> None:
    """While Redis hangs, the answer comes after redis_timeout_s and says so; what befell its connections is counted."""
    with Processes(tmp_path, redis_url=own_server.url, models_dir=models_dir) as processes:
        processes.consumer(version=1)
        _, url = processes.ingest(redis_timeout_s=0.4)
        before = figures(url)
        own_server.signal(signal.SIGSTOP)
        began = time.monotonic()
        found = figures(url)
        assert time.monotonic() - began < 2
        assert found["sluice_redis_up", ()] == 0
        assert ("sluice_backlog_entries", (("model", "tiny"),)) not in found
        wait_until(lambda: figure(url, "sluice_redis_errors_total", error="TimeoutError"), "a time-out is counted")
        own_server.signal(signal.SIGCONT)
        wait_until(lambda: figure(url, "sluice_redis_up") == 1, "Redis is back")
        connections = ("sluice_redis_connections_total", ())
        assert figures(url)[connections] > before[connections]
        assert not any(name == "sluice_redis_errors_total" for name, _ in before)
