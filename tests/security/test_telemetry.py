"""No process of ours sends usage data: ONNX Runtime would, unless that is switched off before it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import tiny_model
from tests.support.processes import ROOT

#: A session, and what the process has open a moment later: sockets, and files in its home folder.
_PROGRAM = """
import os, sys, threading
import {package}
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
threading.Event().wait(1)
opened = [os.readlink(f"/proc/self/fd/{{number}}") for number in os.listdir("/proc/self/fd") if number.isdecimal()
          and os.path.lexists(f"/proc/self/fd/{{number}}")]
print(*(name for name in opened if name.startswith(("socket:", os.environ["HOME"]))))
"""


def used_by(package: str, folder: Path, **environment: str) -> tuple[str, list[str]]:
    """What a session opens in a process that imports this first, and what it leaves in its home folder."""
    home = folder / "home"
    home.mkdir()
    given = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(package=package), tiny_model.build(folder)],
        env={**given, "HOME": str(home), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout.strip(), [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("package", ["consumers.onnx.session", "export", "bench"])
def test_a_session_reports_to_no_one(package: str, tmp_path: Path) -> None:
    """No socket, and no database of events in the home folder."""
    assert used_by(package, tmp_path) == ("", [])


def test_the_images_switch_it_off_for_every_process() -> None:
    """Also for what a user starts in them."""
    assert "ORT_DISABLE_TELEMETRY=1" in (ROOT / "Dockerfile").read_text()
