"""The comparison of gRPC with REST, against a real service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingest.test_app import png
from tests.support.documents import ROOT
from tests.support.grpc_service import serving_grpc
from tests.support.redis.requests_direct import random_images


def compared(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "image.png").write_bytes(png(random_images(1)[0]))
    command = [sys.executable, "-m", "bench.grpc_load", "--image", str(folder / "image.png"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load (nghttp2-client)")
def test_both_rates_are_measured_and_failures_counted(tmp_path: Path) -> None:
    """Also those of gRPC, whose failures have the status 200 of HTTP."""
    with serving_grpc(tmp_path) as service:
        common = ("--seconds", "0.5", "--clients", "4", "--grpc", service.address, "--http", service.http.address)
        good = compared(tmp_path, "--model", "tiny", *common)
        assert re.search(r"REST .*\ngRPC .*\ngRPC has [\d.]+ of the rate of REST; 0 requests failed", good.stdout), good
        bad = compared(tmp_path, "--model", "nowhere", *common)
    found = re.search(r"(\d+) requests failed", bad.stdout)
    assert found, bad
    assert int(found[1]) >= 2 * 320
    assert bad.returncode == 1
