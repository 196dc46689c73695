"""The networks that are served in a run: found in the repository of the benchmark, or exported into it, once."""

import json
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx

from bench import images, models
from bench.measure.interleaved import say
from bench.measure.processes import ROOT
from bench.models import FP16, FP32, INT8

#: What the benchmark on the CPU serves.
NETWORKS = tuple((name, version) for name in ("resnet50", "efficientnet-lite0") for version in (FP32, INT8))

_CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class Repository:
    """Artefacts in `folder`, and for those that are missing, why."""

    folder: Path
    missing: dict[tuple[str, str], str]
    random: frozenset[str]  # names of networks with random weights: theirs could not be downloaded

    def path(self, name: str, version: str) -> Path | None:
        path = self.folder / name / version / "model.onnx"
        return path if path.exists() else None


def prepare(folder: Path, wanted: Collection[tuple[str, str]]) -> Repository:
    """Make the near-zero network and those that are `wanted` (name, version), unless they are there."""
    models.build(folder)
    versions: dict[str, list[str]] = {}
    for name, version in wanted:
        versions.setdefault(name, []).append(version)
    if any(version == INT8 and not _path(folder, name, version).exists() for name, version in wanted):
        images.write_calibration(folder / _CALIBRATION)
    missing: dict[tuple[str, str], str] = {}
    # An export keeps one core busy most of the time. A network's versions come from each other, one after the other.
    with ThreadPoolExecutor(max(1, len(versions))) as pool:
        for found in pool.map(lambda name: _prepare(folder, name, versions[name]), versions):
            missing |= found
    return Repository(folder, missing, frozenset(name for name in versions if _is_random(folder, name)))


def _prepare(folder: Path, name: str, versions: list[str]) -> dict[tuple[str, str], str]:
    """Make the versions of one network that are not there; returns those that cannot be made, and why."""
    missing: dict[tuple[str, str], str] = {}
    for version in versions:
        if not _path(folder, name, version).exists() and (why := _export(folder, name, version)):
            missing[name, version] = why
            say(f"{name}/{version} is left out: {why}")
    return missing


def _path(folder: Path, name: str, version: str) -> Path:
    return folder / name / version / "model.onnx"


def _export(folder: Path, name: str, version: str) -> str:
    """Export one; returns why that failed, or an empty string."""
    say(f"exporting {name}, version {version}: once, it takes a minute or two")
    if version == FP32:
        options = [name, "--output", str(folder), "--version", version]
        if not (why := _run(options)):
            return ""
        say(f"{why}; with random weights instead, which are as fast")
        return _run([*options, "--weights", "none"])
    options = ["--from", str(_path(folder, name, FP32)), "--version", version]
    # Random weights agree with nothing.
    options += ["--min-agreement", "0"] if _is_random(folder, name) else []
    if version == FP16:
        return _run([*options, "--precision", "fp16"])
    return _run([*options, "--precision", "int8", "--calibrate", str(folder / _CALIBRATION)])


def _is_random(folder: Path, name: str) -> bool:
    path = _path(folder, name, FP32)
    if not path.exists():
        return False
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return bool(json.loads(metadata["sluice.source"]).get("weights") == "none")


def _run(options: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "export", *options], cwd=ROOT, check=False, capture_output=True, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else f"export ended with {done.returncode}: {lines[-1] if lines else ''}"
