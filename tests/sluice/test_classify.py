"""`sluice classify` as the first command in a folder: it starts a service for its images, and ends it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.health import not_ready
from sluice.classify import main
from stream.embedded.run_file import RunFile, running_anywhere
from tests.support import recorded_server
from tests.support.images import encoded, scene
from tests.support.models import tiny_model
from tests.support.processes import ROOT
from tests.support.recorded_server import body
from tests.support.redis.servers import free_port
from tests.support.scripted_service import Reply, serve


def state_of(folder: Path) -> Path:
    """Where the runs of this test alone are listed."""
    return folder.parent / f"{folder.name}-state"


def classify(folder: Path, *arguments: str, port: int = 0) -> subprocess.CompletedProcess[str]:
    """By default on a port on which nothing listens, so that no service of this machine answers."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "SLUICE_WORKERS": "1", "SLUICE_PORT": str(port or free_port())}
    variables["XDG_STATE_HOME"] = str(state_of(folder))
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
    assert done.stderr.startswith("No service runs here, so one starts for these images, with Flowers.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.jpg", "models"]


def test_several_models_are_asked_for(tmp_path: Path) -> None:
    """And the one that is named is taken, from a service of its own if the one on the port has others."""
    for name in ("one", "two"):
        tiny_model.build(tmp_path / "models", name=name, version="1")
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    done = classify(tmp_path, "image.jpg")
    assert done.returncode == 2
    assert done.stderr == "sluice classify: models holds one, two; choose one with --model\n"
    replies = {"/healthz": body(b'{"status": "alive"}'), "/models": body(b'{"models": [{"name": "one"}]}')}
    with recorded_server.serve(replies) as other:
        done = classify(tmp_path, "image.jpg", "--model", "two", port=other.port)
    assert done.stderr.startswith("No service here has the model two, so one starts for these images, with two.")
    assert done.returncode == 0, done.stderr
    assert next(csv.DictReader(done.stdout.splitlines()))["model"] == "two"


def test_a_service_that_cannot_start_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the status and the words of the service, which does not repeat the line on a misspelt variable."""
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    monkeypatch.setenv("SLUICE_APIKEY", "x")
    done = classify(tmp_path, "image.jpg", "--model", "no_such_model")
    assert done.returncode == 2
    assert "there is no architecture 'no_such_model'" in done.stderr
    misspelt = [line for line in done.stderr.splitlines() if "SLUICE_APIKEY" in line]
    assert misspelt == ["sluice classify: SLUICE_APIKEY is no setting and has no effect: did you mean SLUICE_API_KEY?"]


def test_a_port_that_is_no_number_has_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_PORT", "five")
    with pytest.raises(SystemExit) as caught:
        main(["image.jpg"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "sluice classify: SLUICE_PORT is 'five', which is no port\n"


def test_the_model_that_is_printed_decides_on_the_columns(tmp_path: Path) -> None:
    """Among several of one service: the table has no column that stays empty."""
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    models = json.dumps({"models": [{"name": "roses", "labels": 9}, {"name": "flowers", "labels": 2}]}).encode()
    predictions = [{"label": "tulip", "probability": 0.9}, {"label": "daisy", "probability": 0.1}]
    good = json.dumps({"predictions": predictions, "model": "flowers", "version": "1", "id": "a"}).encode()
    with serve(lambda body: Reply(200, good if body else models)) as script:
        port = int(script.url.rpartition(":")[2])
        (tmp_path / ".sluice" / str(port)).mkdir(parents=True)
        with RunFile(tmp_path / ".sluice" / str(port) / "serve.json").held(port=port, model="flowers"):
            done = classify(tmp_path, "image.jpg")
    assert done.stdout.splitlines()[1].endswith(",tulip,0.9,daisy,0.1,,flowers,1,a"), done.stderr


def test_what_has_the_port_must_be_sluice(tmp_path: Path) -> None:
    """A service of a container is used. For another program, such as AirPlay on macOS, no image is meant."""
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    model = ("--model", "no_such_model", "--give-up-after", "0")
    for reply, used in ((Reply(403, b""), False), (Reply(200, b'{"status": "alive"}'), True)):
        with serve(lambda _, reply=reply: reply) as script:  # type: ignore[misc]
            assert not_ready(script.url) == ("" if used else "HTTP 403")
            done = classify(tmp_path, "image.jpg", *model, port=int(script.url.rpartition(":")[2]))
        assert done.stderr.startswith(f"The images go to {script.url}" if used else "No service runs here"), done.stderr


def test_services_elsewhere_are_named_and_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary service with a default model starts beside them. One that was killed is forgotten."""
    (tmp_path / "image.jpg").write_bytes(encoded(scene(), "JPEG"))
    monkeypatch.setenv("XDG_STATE_HOME", str(state_of(tmp_path)))
    other = tmp_path / "other"
    other.mkdir()
    port = free_port()
    with RunFile(other / "serve.json").held(port=port, model="flowers"):
        done = classify(tmp_path, "image.jpg", "--output", "rows.csv")
        assert done.returncode == 2
        assert "a service runs, but not in this folder. Name the one to use:" in done.stderr
        assert f"--url http://127.0.0.1:{port} (flowers)   data in {other}" in done.stderr
        done = classify(tmp_path, "image.jpg", "--model", "flowers", "--give-up-after", "0")
        assert done.stderr.startswith(f"The images go to http://127.0.0.1:{port}, to the model flowers.\n")
    assert running_anywhere() == {}
    assert not (tmp_path / "rows.csv").exists()
    here = tmp_path / ".sluice" / str(port)
    here.mkdir(parents=True)
    with RunFile(here / "serve.json").held(port=port, model="flowers"):
        done = classify(tmp_path, "image.jpg", "--model", "roses", "--give-up-after", "0")
        assert done.stderr.startswith(f"The images go to http://127.0.0.1:{port}, to the model roses.\n")
    (state_of(tmp_path) / "sluice" / "1").write_text(str(other / "serve.json"))
    assert running_anywhere() == {}
    assert list((state_of(tmp_path) / "sluice").iterdir()) == []
