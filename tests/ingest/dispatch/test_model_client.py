"""The model client's log: its lines name the requests that exist, and no others."""

import json

import httpx

from tests.ingest.test_app import png
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

IMAGE = png(random_images(1)[0])


def test_log_lines_name_only_requests_that_exist(processes: Processes) -> None:
    """With the cache on, a lookup needs an id. Only an id that has a result may be logged."""
    processes.consumer(version=1)
    ingest, url = processes.ingest(cache_ttl_s=600, log_level="debug", log_format="json")
    classified, cached, queued = (
        httpx.post(f"{url}/predict", content=IMAGE, headers=headers, timeout=30)
        for headers in ({}, {}, {"Prefer": "respond-async"})
    )
    assert classified.headers["cache-status"] == "sluice; fwd=miss"
    assert cached.headers["cache-status"] == "sluice; hit"
    wait_until(lambda: len(_logged(ingest)) == 3, "three requests are logged")
    assert _logged(ingest) == [one.json()["id"] for one in (classified, cached, queued)]


def _logged(ingest: Process) -> list[object]:
    """The request of each line about a POST."""
    lines = [json.loads(line) for line in ingest.text.splitlines() if line.startswith("{")]
    return [line.get("request") for line in lines if line.get("method") == "POST"]
