"""`GET /models`: what is served."""

import httpx

from tests.support.processes import Processes
from tests.support.waiting import wait_until


def test_models_lists_each_version_with_its_consumers(processes: Processes) -> None:
    """Nothing at first; then what came, and what it takes and answers."""
    _, url = processes.ingest(ready=False)
    nothing = {"success": True, "models": []}
    wait_until(lambda: httpx.get(url + "/models").json() == nothing, "Redis has answered")
    for version in (1, 2, 2):
        processes.consumer(version=version)
    own = {"name": "tiny", "input": {"height": 16, "width": 16}, "labels": 10, "provider": "CPUExecutionProvider"}
    wanted = [{**own, "version": "1", "consumers": 1}, {**own, "version": "2", "consumers": 2}]
    wait_until(lambda: httpx.get(url + "/models").json() == {"success": True, "models": wanted}, "all three are listed")
