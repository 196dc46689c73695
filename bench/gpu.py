"""`python -m bench.gpu`: what an NVIDIA GPU makes of ResNet50, from the raw session to the whole path.

For each provider and precision: the difference to the golden output, what a change of the batch size costs, the raw
session with and without CUDA graphs, a consumer alone, the whole path, and what overlapping copies and runs could gain.
Writes one JSON file, and a table to the terminal. A step that fails is reported, and the next one goes on.

`--quick` takes under 8 minutes. `--models random` needs no network and no TensorFlow. `--pretend` runs the same steps
on the CPU, to test them; its figures say nothing about a GPU, and the file says so.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from bench import models, random_resnet50
from bench.gpu_steps import Measured, copies, golden_difference, raw_rates, switching
from bench.measure import full_stream, interleaved, load
from bench.models import FP16, FP32
from bench.systems import Task
from consumers.gpu import devices as gpus
from consumers.onnx.providers import CPU, CUDA, TENSORRT, Execution, Provider

#: Seconds of work for a consumer alone, at the rate of the raw session, and most entries: 3 GB.
_CONSUMER_S = 4.0
_MOST_ENTRIES = 20_000
_FEWEST_ENTRIES = 200

_CLIENTS = (32, 256)


@dataclass(frozen=True, slots=True)
class Case:
    """One file on one provider."""

    provider: Provider
    precision: str
    version: str

    @property
    def batches(self) -> tuple[int, ...]:
        """TensorRT's engines are for one range of sizes: that of a consumer, so that they are built once."""
        return (1, 8, 32, 128, 256) if self.provider is CUDA else (1, 8, 32)

    def __str__(self) -> str:
        return f"{self.provider.name} {self.precision}"


#: TensorRT computes the fp32 file in fp16.
GPU_CASES = (Case(CUDA, "fp32", FP32), Case(CUDA, "fp16", FP16), Case(TENSORRT, "fp32 as fp16", FP32))
CPU_CASES = (Case(CPU, "fp32", FP32),)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    repository: Path
    model: str
    folder: Path
    raw_s: float
    path_s: int

    def path(self, case: Case) -> Path:
        return self.repository / self.model / case.version / "model.onnx"

    def execution(self, case: Case, *, graphs: bool = True) -> Execution:
        """As a consumer runs it. Engines are built once: in the folder where the consumers of the later steps look."""
        name: Any = case.provider.name
        return Execution(name, 0, max(case.batches), cuda_graphs=graphs, cache_dir=self.folder / "data")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if not given.pretend and not gpus.visible():
        print(f"bench.gpu: {gpus.why_none()}. Nothing measured; --pretend runs the steps on the CPU.")
        return 1
    cases = CPU_CASES if given.pretend else GPU_CASES
    with _plan(given) as plan:
        results = {"about": _about(given, plan), "cases": {str(case): _measure(case, plan) for case in cases}}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(results, indent=1) + "\n")
    print(*_table(results), sep="\n")
    print(f"written: {given.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter, under 8 minutes")
    add("--pretend", action="store_true", help="run the steps on the CPU, to test them")
    add("--models", choices=("published", "random", "nearzero"), default="published", help="which network to measure")
    add("--models-dir", type=Path, default=Path(".sluice/bench/models"))
    add("--output", type=Path, default=Path(".sluice/bench/gpu.json"))
    return parser


@contextmanager
def _plan(given: argparse.Namespace) -> Iterator[Plan]:
    repository = given.models_dir.resolve() / given.models
    match given.models:
        case "published":
            from bench import artefacts  # Only here: it needs scikit-image, which a bare machine does not have.

            artefacts.prepare(repository, [("resnet50", FP32), ("resnet50", FP16)])
        case "random":
            random_resnet50.build(repository)
        case "nearzero":
            models.build(repository)
    name = models.NAME if given.models == "nearzero" else "resnet50"
    with tempfile.TemporaryDirectory(prefix="sluice-gpu-", dir=interleaved.scratch()) as folder:
        yield Plan(repository, name, Path(folder), 1.0 if given.quick else 3.0, 4 if given.quick else 10)


def _about(given: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pretended": given.pretend,
        "model": plan.model,
        "weights": given.models,
        "gpu": "none: pretended on the CPU" if given.pretend else gpus.name(0),
        "cuda_of_the_driver": list(gpus.supported_cuda()),
        "onnxruntime": ort.__version__,
    }


def _measure(case: Case, plan: Plan) -> dict[str, Measured]:
    """Each step by its name; a step that failed has its error."""
    rates: dict[str, float] = {}

    def raw(*, graphs: bool) -> Measured:
        found = raw_rates(plan.path(case), plan.execution(case, graphs=graphs), case.batches, plan.raw_s)
        rates.update(found if graphs else {})
        return dict(found)

    def consumer() -> Measured:
        best = max(rates.values(), default=0.0)
        rate = _consumer_alone(case, plan, best)
        return {"images_per_s": rate, "of_the_raw_session": rate / best if best else 0.0}

    steps: dict[str, Callable[[], Measured]] = {
        "golden": lambda: golden_difference(plan.path(case), plan.execution(case)),
        "switching": lambda: switching(plan.path(case), plan.execution(case), case.batches),
        "raw session": lambda: raw(graphs=True),
        "overlap": lambda: copies(plan.path(case), plan.execution(case)),
        "consumer alone": consumer,
        "whole path": lambda: _whole_path(case, plan),
    }
    if case.provider.graphs:
        without = plan.execution(case, graphs=False)
        steps["switching, no graphs"] = lambda: switching(plan.path(case), without, case.batches)
        steps["raw session, no graphs"] = lambda: raw(graphs=False)
    return {name: _attempt(case, name, step) for name, step in steps.items()}


def _attempt(case: Case, name: str, step: Callable[[], Measured]) -> Measured:
    began_s = time.monotonic()
    try:
        found = step()
    except Exception as error:  # noqa: BLE001 (whatever fails on a new machine is a result, and the others count)
        found = {"error": f"{type(error).__name__}: {error}"}
    interleaved.say(f"{case}, {name}: {time.monotonic() - began_s:.0f} s {found.get('error', '')}")
    return found


def _consumer_alone(case: Case, plan: Plan, raw_per_s: float) -> float:
    """Images per second of `python -m consumers` on a full stream."""
    entries = int(min(max(raw_per_s * _CONSUMER_S, _FEWEST_ENTRIES), _MOST_ENTRIES))
    with full_stream.server(plan.folder) as redis:
        return full_stream.rate_of_consumer(
            redis,
            plan.folder,
            plan.repository,
            model=plan.model,
            version=case.version,
            provider=case.provider.name,
            entries=entries,
        )


def _whole_path(case: Case, plan: Plan) -> Measured:
    """Images per second and latency over HTTP, for two numbers of clients."""
    settings = {"SLUICE_PROVIDER": case.provider.name, "SLUICE_DATA_DIR": str(plan.folder / "data")}
    task = Task(plan.repository, plan.model, case.version, plan.folder, settings)
    left_out: list[str] = []
    found: Measured = {}
    image = _image()
    with interleaved.started(interleaved.by_name("sluice"), task, image, left_out=left_out) as running:
        for one in running:
            upload = one.system.upload(image)
            for clients in _CLIENTS:
                sample = load.closed(one.port, upload, clients=clients, seconds=plan.path_s)
                found[f"{clients} clients, images_per_s"] = sample.per_s
                found[f"{clients} clients, p99_ms"] = sample.p99_ms
    if left_out:
        raise RuntimeError(left_out[0])
    return found


def _image() -> bytes:
    """A JPEG of 500 x 375 pixels with about the bytes of a camera's."""
    coarse = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(data, "JPEG", quality=95)
    return data.getvalue()


def _table(results: dict[str, Any]) -> Iterator[str]:
    about = results["about"]
    yield f"{about['model']} ({about['weights']}) on {about['gpu']}, {about['date']}"
    if about["pretended"]:
        yield "Pretended: these figures are the CPU's, and say nothing about a GPU."
    yield "| case | step | figure | value |\n| --- | --- | --- | --- |"
    for case, steps in results["cases"].items():
        for step, figures in steps.items():
            for figure, value in figures.items():
                shown = f"{value:.4g}" if isinstance(value, float) else value
                yield f"| {case} | {step} | {figure} | {shown} |"


if __name__ == "__main__":
    sys.exit(main())
