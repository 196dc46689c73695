"""The examples and what README shows, run as a user runs them, against a real service."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import text
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


def test_what_the_readme_shows_is_what_one_gets(processes: Processes, image: Path) -> None:
    """Its curl lines answer in the shape that is printed below them, and its Python prints what it says."""
    processes.consumer()
    _, url = processes.ingest()
    image.with_name("examples").mkdir()
    for name in ("cat.jpg", "coffee.jpg", "examples/cat.jpg"):
        (image.parent / name).write_bytes(image.read_bytes())
    shown = [
        found
        for name in ("README.md", "docs/api.md")
        for found in re.findall(r"^\$ (curl [^\n]*)\n(\{.*?\})\n(?=```|\$)", text(name), re.MULTILINE | re.DOTALL)
    ]
    assert len(shown) == 3
    for command, reply in shown:
        words = shlex.split(command.replace("http://127.0.0.1:5000", url))
        done = subprocess.run([*words, "--silent"], cwd=image.parent, check=True, capture_output=True)
        assert _shape(json.loads(done.stdout)) == _shape(json.loads(reply)), command
    (python,) = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    code = python.replace("http://127.0.0.1:5000", url)
    lines = subprocess.check_output([sys.executable, "-c", code], cwd=image.parent, text=True).splitlines()
    assert all(re.fullmatch(r"0\.\d{4} class_\d", line) for line in lines)
    assert len(lines) == 5


def _shape(node: object) -> object:
    """JSON without its values, so that two answers can be compared."""
    match node:
        case dict():
            return {name: _shape(one) for name, one in node.items()}
        case list():
            return [_shape(one) for one in node]
        case _:
            return type(node).__name__


def test_simple_request_without_a_service_or_a_file_fails_in_one_line(image: Path) -> None:
    """No traceback for what a user will meet first."""
    for arguments in ([image, "--url", f"http://127.0.0.1:{free_port()}"], [image.with_name("none.jpg")]):
        failed = run(*arguments)
        assert failed.returncode == 1
        assert failed.stderr.startswith("simple_request.py: ")
        assert len(failed.stderr.splitlines()) == 1
