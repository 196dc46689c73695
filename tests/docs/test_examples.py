"""The first example, run as a user runs it, against a real service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.images import encoded, scene
from tests.support.processes import ROOT, Processes
from tests.support.redis.servers import free_port


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples/simple_request.py"), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "scene.jpg"
    path.write_bytes(encoded(scene(), "JPEG"))
    return path


def test_simple_request_prints_ranked_labels_and_says_what_went_wrong(processes: Processes, image: Path) -> None:
    """Ranked labels on success; else one line with the reason, which the service gives in words."""
    processes.consumer()
    _, url = processes.ingest()
    done = run(image, "--url", url, "--top", 3)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (0, "", 3)
    assert [line.split()[0] for line in lines] == ["1.", "2.", "3."]
    assert all(re.fullmatch(r"\d\. class_\d: 0\.\d{4}", line) for line in lines)
    probabilities = [float(line.rpartition(": ")[2]) for line in lines]
    assert probabilities == sorted(probabilities, reverse=True)

    (broken := image.with_name("broken.jpg")).write_bytes(image.read_bytes()[:700])
    refused = run(broken, "--url", url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("simple_request.py: 422 Damaged image: ")
    assert len(refused.stderr.splitlines()) == 1

    elsewhere = run(image, "--url", f"{url}/nowhere")
    assert elsewhere.returncode == 1
    assert "404" in elsewhere.stderr


def test_simple_request_without_a_service_or_a_file_fails_in_one_line(image: Path) -> None:
    """No traceback for what a user will meet first."""
    for arguments in ([image, "--url", f"http://127.0.0.1:{free_port()}"], [image.with_name("none.jpg")]):
        failed = run(*arguments)
        assert failed.returncode == 1
        assert failed.stderr.startswith("simple_request.py: ")
        assert len(failed.stderr.splitlines()) == 1
