"""An export as a process: two at once, an unchanged file, an early interruption and a termination."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export.__main__ import main
from export.artefact import file as artefact
from export.errors import OutputRefused
from tests.export.artefact.test_file import description, proto
from tests.support.models import tiny_onnx
from tests.support.waiting import PATIENCE_S


def options(folder: Path) -> list[str]:
    file = tiny_onnx.save(tiny_onnx.model(ends="Softmax"), folder / "tiny.onnx")
    (folder / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
    words = ["--labels", str(folder / "labels.txt"), "--preprocess", "unit", "--output", str(folder / "models")]
    return [str(file), *words]


def test_an_unchanged_file_is_not_exported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other options or another file make the next version. One in another precision is not what the file gives."""
    words = options(tmp_path)
    assert main([*words, "--if-changed"]) == 0
    capsys.readouterr()
    assert main([*words, "--if-changed"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/models/tiny/1/model.onnx is up to date\n"
    assert main(["--from", f"{tmp_path}/models/tiny/1", "--precision", "fp16"]) == 0
    capsys.readouterr()
    assert main([*words, "--if-changed"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/models/tiny/1/model.onnx is up to date\n"
    assert main([*words, "--if-changed", "--version", "2"]) == 2
    assert "models/tiny/2/model.onnx is there already" in capsys.readouterr().err
    assert main([*words, "--like", "load_img", "--if-changed"]) == 0
    tiny_onnx.save(tiny_onnx.model(ends="Softmax", residual=False), tmp_path / "tiny.onnx")
    assert main([*words, "--like", "load_img", "--if-changed"]) == 0
    capsys.readouterr()
    assert main(words) == 0
    printed = capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "models" / "tiny").iterdir()) == ["1", "2", "3", "4", "5"]
    assert "services change to version 5 unless a release names another: at a restart by name (sluice serve tiny)" in (
        printed.out
    )
    assert "nothing names the loader of the training" in printed.err


def test_of_two_exports_at_once_one_fails(tmp_path: Path) -> None:
    """The file that is there stays; neither is lost without a word."""
    target, outcomes = tmp_path / "model.onnx", []

    def write() -> None:
        try:
            artefact.write(proto(), description(), target, replaces=False)
        except OutputRefused as error:
            outcomes.append(str(error))
        else:
            outcomes.append("wrote")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("wrote") == 1
    assert all("was written by another export" in outcome for outcome in outcomes if outcome != "wrote")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int, status: int, word: str) -> None:
    """Neither temporary files nor a traceback, whenever it comes."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "export",
        "mobilenet",
        "--weights",
        "none",
        "--size",
        "32",
        "--output",
        str(tmp_path / "models"),
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        while line and "conversion to ONNX" not in line:
            line = process.stderr.readline()
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(PATIENCE_S) == status
    assert f"python -m export: {word}, nothing was written" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "models").exists()
    assert not list(temporary.iterdir())


def test_an_early_interruption_shows_no_traceback(tmp_path: Path) -> None:
    """While NumPy and the rest are being imported, and where exceptions are shown and dropped, as TensorFlow does."""
    program = (
        "import signal, sys, traceback\n"
        "import export.__main__ as command\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'export.program':\n"
        "            try:\n"
        "                signal.raise_signal(signal.SIGINT)\n"
        "            except BaseException:\n"
        "                traceback.print_exc()\n"
        "command.end_on_signals()\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.exit(command.main(['resnet50']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr == "\npython -m export: interrupted, nothing was written\n"
