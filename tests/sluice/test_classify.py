"""`sluice classify` as the first command in a folder: it starts a service for its images, and ends it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.support.images import encoded, scene
from tests.support.models import tiny_model
from tests.support.processes import ROOT
from tests.support.redis.servers import free_port


def classify(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """On a port on which nothing listens, so that no service of this machine answers."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "SLUICE_WORKERS": "1", "SLUICE_PORT": str(free_port())}
    command = [sys.executable, "-m", "sluice", "classify", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)


def test_the_first_command_classifies_an_image(tmp_path: Path) -> None:
    """With the only model of the folder, whatever its name. The rows alone are on stdout, and nothing stays."""
    tiny_model.build(tmp_path / "models", name="Flowers", version="3")
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    done = classify(tmp_path, "image.jpg")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert (row["model"], row["version"]) == ("Flowers", "3")
    assert row["label_1"].startswith("class_")
    assert done.stderr.startswith("No service runs here, so one starts for these images.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.jpg", "models"]


def test_several_models_are_asked_for(tmp_path: Path) -> None:
    """And the one that is named is taken."""
    for name in ("one", "two"):
        tiny_model.build(tmp_path / "models", name=name, version="1")
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    done = classify(tmp_path, "image.jpg")
    assert done.returncode == 2
    assert done.stderr == "sluice classify: models holds one, two; choose one with --model\n"
    done = classify(tmp_path, "image.jpg", "--model", "two")
    assert done.returncode == 0, done.stderr
    assert next(csv.DictReader(done.stdout.splitlines()))["model"] == "two"


def test_a_service_that_cannot_start_ends_the_command(tmp_path: Path) -> None:
    """With the status and the words of the service."""
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    done = classify(tmp_path, "image.jpg", "--model", "no_such_model")
    assert done.returncode == 2
    assert "there is no architecture 'no_such_model'" in done.stderr
