"""`sluice serve` after an export by hand, and the commands' names in their messages."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from export.__main__ import main as export
from sluice.command import PROGRAM_VARIABLE, main
from sluice.models import prepare
from stream import cli
from stream.embedded.run_file import RunFile
from stream.host.private_folder import socket_path
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of an export, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    model = tiny_keras.model()
    model.save("flowers.keras")
    Path("labels.txt").write_text("".join(f"{number}\n" for number in range(model.output_shape[-1])))
    return ["flowers.keras", "--labels", "labels.txt", "--preprocess", "unit"]


def test_an_export_by_hand_is_served_as_it_is(flowers: list[str]) -> None:
    """The same file with the same options is not exported twice; other options make the next version.

    A version in another precision is not served in its place, nor one that took the place of the export.
    """
    assert export(flowers) == 0
    assert export(["--from", "models/flowers/1", "--precision", "fp16"]) == 0
    name, *options = flowers
    first = prepare(name, options, Path("models"))
    assert (first.version, first.reason) == ("1", "exported before")
    assert prepare(name, options, Path("models")).reason == "unchanged since its export"
    assert json.loads(Path("models/flowers/1/export.json").read_text())["source"] == "flowers.keras"
    second = prepare(name, [*options, "--like", "load_img"], Path("models"))
    assert (second.version, second.reason) == ("3", "exported now")
    shutil.copy("models/flowers/3/model.onnx", "models/flowers/1/model.onnx")
    replaced = prepare(name, options, Path("models"))
    assert (replaced.version, replaced.reason) == ("4", "exported now")


def test_the_advice_of_an_export_repeats_its_command(flowers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the options that were typed, so that it can be copied."""
    assert main(["export", *flowers[:3]]) == 2
    command = f"{cli.sluice()} export flowers.keras --labels labels.txt"
    error = capsys.readouterr().err
    assert f"If you know it:  {command} --preprocess unit|" in error
    assert f"If you don't:    {command} --images FOLDER" in error


def test_commands_call_themselves_as_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `sluice`, and by `python -m`."""
    monkeypatch.chdir(tmp_path)
    assert cli.PROGRAM_VARIABLE == PROGRAM_VARIABLE
    for command in ("export", "classify", "status", "results"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: sluice {command} ")
        assert PROGRAM_VARIABLE not in os.environ
    ended = subprocess.run(
        [sys.executable, "-m", "consumers", "status", "--help"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("usage: python -m consumers status ")


def test_status_where_nothing_runs_says_how_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Instead of the error of a socket."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLUICE_REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{os.environ['PATH']}")
    assert main(["status"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sluice status: no service runs in this folder")
    assert "Start one with: sluice serve" in error
    Path(".sluice/5371").mkdir(parents=True)
    socket_path(Path(".sluice/5371")).touch()
    assert main(["status"]) == 2
    assert "Others may run in: .sluice/5371. Choose one with --data-dir" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_status_of_another_user_s_service_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found in this folder, or named. No message says to remove the folder, which has the queue."""
    monkeypatch.delenv("SLUICE_REDIS_URL", raising=False)
    with tempfile.TemporaryDirectory() as folder:  # That of pytest is closed to others.
        monkeypatch.chdir(folder)
        Path(folder).chmod(0o755)
        Path(".sluice/5000").mkdir(parents=True)
        socket_path(Path(".sluice/5000")).touch()
        Path(".sluice/5000").chmod(0o700)
        assert main(["status"]) == 2, "all modules are imported: the other user may not read them"
        with as_another_user():
            for words in ([], ["--data-dir", ".sluice/5000"]):
                with suppress(SystemExit):
                    assert main(["status", *words]) == 2
                assert ".sluice/5000 belongs to the user root: run this as that user (sudo -u root ...)" in (
                    capsys.readouterr().err
                )


@contextmanager
def as_another_user() -> Iterator[None]:
    os.setresuid(65_534, 65_534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_status_of_a_service_with_a_redis_of_its_own_asks_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service runs, but its folder has no server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("SLUICE_REDIS_URL", raising=False)
    Path(".sluice/5000").mkdir(parents=True)
    with RunFile(Path(".sluice/5000/serve.json")).held(port=5000, model="resnet50"):
        assert main(["status"]) == 2
    assert "started with SLUICE_REDIS_URL, set that here, too" in capsys.readouterr().err


def test_commands_are_named_as_they_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the path of the environment unless it is activated, also where another program has the name."""
    (tmp_path / "sluice").write_text("#!/bin/sh\n")
    (tmp_path / "sluice").chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/sluice").symlink_to(tmp_path / "other")
    (tmp_path / "other").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.sluice() == ".venv/bin/sluice"
    monkeypatch.setenv("PATH", str(tmp_path / ".venv/bin"))
    assert cli.sluice() == "sluice"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", "")
    assert cli.sluice() == str(tmp_path / ".venv/bin/sluice")


def test_a_wrong_normalisation_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """A user who writes the formula sees which name it has."""
    with pytest.raises(SystemExit) as ended:
        export(["flowers.keras", "--preprocess", "1/255"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "'1/255' is no normalisation" in error
    assert "unit      pixels / 255, as ImageDataGenerator(rescale=1/255)" in error
