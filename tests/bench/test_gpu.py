"""The GPU benchmark, pretended on the CPU: each step runs, and one that fails does not end the others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu, models
from bench.gpu import CPU_CASES, Plan
from bench.gpu_steps import Measured
from bench.models import FP32
from consumers.gpu import devices as gpus
from tests.support.processes import ROOT


def test_every_step_runs_although_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a new machine the first failure must not hide what the other steps show."""

    def broken(*_: object) -> Measured:
        raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(gpu, "switching", broken)
    monkeypatch.setattr(gpu, "_MOST_ENTRIES", 500)
    monkeypatch.setattr(gpu, "_CLIENTS", (8,))
    models.build(tmp_path)
    (tmp_path / "run").mkdir()
    (case,) = CPU_CASES
    found = gpu._measure(case, Plan(tmp_path, models.NAME, tmp_path / "run", raw_s=0.05, path_s=1))
    assert found["switching"] == {"error": "RuntimeError: CUDNN_STATUS_NOT_SUPPORTED"}
    assert {name for name, figures in found.items() if "error" in figures} == {"switching"}
    assert float(found["golden"]["largest_difference"]) < 1e-4
    assert float(found["raw session"]["batch 32, images_per_s"]) > 0
    assert float(found["consumer alone"]["images_per_s"]) > 0
    assert float(found["whole path"]["8 clients, images_per_s"]) > 0


def test_what_is_pretended_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the file and in the table: the figures of a CPU must never pass for those of a GPU."""
    steps: dict[str, Measured] = {"golden": {"largest_difference": 1e-6}}
    monkeypatch.setattr(gpu, "_measure", lambda *_: steps)
    output = tmp_path / "out" / "gpu.json"
    options = ["--quick", "--pretend", "--models", "nearzero", "--models-dir", str(tmp_path), "--output", str(output)]
    assert gpu.main(options) == 0
    written = json.loads(output.read_text())
    assert (written["about"]["pretended"], written["about"]["gpu"]) == (True, "none: pretended on the CPU")
    assert list(written["cases"]) == ["cpu fp32"]
    shown = capsys.readouterr().out
    assert "Pretended: these figures are the CPU's, and say nothing about a GPU." in shown
    assert "| cpu fp32 | golden | largest_difference | 1e-06 |" in shown


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And why is said in one line."""
    monkeypatch.setattr(gpus, "visible", list)
    monkeypatch.setattr(gpus, "_DRIVER", "libno-such-driver.so.1")
    assert gpu.main(["--quick"]) == 1
    assert "Nothing measured" in capsys.readouterr().out


def test_a_bare_machine_can_run_it() -> None:
    """Without TensorFlow and scikit-image: a GPU machine often has no network to fetch them."""
    code = "import bench.gpu, sys; print({'tensorflow', 'keras', 'skimage', 'matplotlib', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_engines_are_built_once(tmp_path: Path) -> None:
    """Raw sessions and consumers look for them in one folder, for one range of batch sizes."""
    plan = Plan(tmp_path, models.NAME, tmp_path / "run", raw_s=1, path_s=1)
    (tensorrt,) = (case for case in gpu.GPU_CASES if case.provider.computes_fp16)
    assert plan.execution(tensorrt).cache_dir == tmp_path / "run" / "data"
    assert plan.execution(tensorrt).max_batch == 32
    assert tensorrt.version == FP32
