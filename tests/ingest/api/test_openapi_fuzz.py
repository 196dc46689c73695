"""Schemathesis against real processes: whatever the document allows or forbids, all of its checks hold.

SLUICE_FUZZ_CASES sets how many cases it tries at least. `/live` has no end, so it is not asked here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingest.test_app import png
from tests.support.processes import ROOT, Processes
from tests.support.recorded_server import body, serve
from tests.support.redis.requests_direct import random_images

CASES = int(os.environ.get("SLUICE_FUZZ_CASES", "0"))
KEY = "k" * 43


@pytest.mark.timeout(600)
def test_no_request_breaks_what_the_document_says(processes: Processes, tmp_path: Path) -> None:
    """The same requests each time: those at the bounds of every parameter, then others, and chains of them."""
    processes.consumer(version=1)
    _, url = processes.ingest(
        api_keys=f"alice:{KEY}", fetch_urls=True, webhooks=True, outbound_http=True, outbound_networks="127.0.0.0/8"
    )
    with serve({"/a.png": body(png(random_images(1)[0]))}) as images:
        _try(url, f"{images.url}/a.png", tmp_path)


def _try(url: str, image_url: str, folder: Path) -> None:
    report = folder / "report.json"
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(ROOT / "tests/support/openapi/schemathesis.toml"),
        "run",
    ]
    options = {
        "--header": f"Authorization: Bearer {KEY}",
        "--max-examples": str(max(5, CASES // 20)),  # of each operation, of which there are more than 20
        "--exclude-path": "/live",
        "--generation-with-security-parameters": "false",
        "--report": "json",
        "--report-json-path": str(report),
    }
    given = [word for option in options.items() for word in option]
    ran = subprocess.run(
        [*command, f"{url}/openapi.json", "--generation-deterministic", "--no-color", *given],
        cwd=folder,  # it keeps notes where it runs
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.support.openapi.schemathesis_hooks",
            "SCHEMATHESIS_IMAGE_URL": image_url,
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summary = json.loads(report.read_text())
    assert summary["operations"]["tested"] == summary["operations"]["total"] - 1
    assert summary["test_cases"]["generated"] >= max(500, CASES)
