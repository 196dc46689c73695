"""The folder of the workers' metrics: it ends with its process, or with the next one."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ingest.serving.metrics_folder import metrics_folder

_HOLD = (
    "from ingest.serving.metrics_folder import metrics_folder as made\nwith made() as f: print(f, flush=True); input()"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of this test, and no others, use this folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def holder() -> tuple[subprocess.Popen[str], Path]:
    """A process that uses a folder, and the folder."""
    words = [sys.executable, "-c", _HOLD]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """And nothing else: neither the folder of one that lives, nor anything that only looks like it."""
    (killed, abandoned), (living, used) = holder(), holder()
    (tmp_path / "sluice-metrics-link").symlink_to(used)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (abandoned / "counter.db").write_text("left")
    with metrics_folder() as own:
        assert not abandoned.exists()
        assert used.is_dir()
        assert own.is_dir()
    assert not own.exists()
    living.communicate("\n")
    assert not used.exists()
