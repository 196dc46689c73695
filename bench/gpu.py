"""`python -m bench.gpu`: ResNet50 on an NVIDIA GPU. Raw session, consumer alone, whole path; CUDA and TensorRT.

fp16 is a reduced artefact under CUDA, and TensorRT's own (trt_fp16_enable) from the fp32 artefact.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from bench import artefacts, images
from bench.artefacts import FP16, FP32, Repository
from bench.measure import full_stream, interleaved, load
from bench.measure.limits import BATCHES
from bench.measure.measuring import measure
from bench.systems import Task
from consumers.onnx.providers import Execution, cuda_options, gpu_present, session_options, tensorrt_options

_MODEL = "resnet50"
_CLIENTS = (1, 32, 64, 256)
_SIZE = 224
_RAW_S = 1.0

#: TensorRT builds its engines before a consumer is ready.
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@dataclass(frozen=True, slots=True)
class Case:
    provider: Literal["cuda", "tensorrt"]
    precision: Literal["fp32", "fp16"]

    @property
    def version(self) -> str:
        """TensorRT makes its own fp16 of the fp32 artefact."""
        return FP16 if (self.provider, self.precision) == ("cuda", "fp16") else FP32

    @property
    def served(self) -> bool:
        """Whether consumers can be told to serve so: with TensorRT they always take fp16."""
        return (self.provider, self.precision) != ("tensorrt", "fp32")

    def __str__(self) -> str:
        return f"{self.provider} {self.precision}"


CASES = (Case("cuda", "fp32"), Case("cuda", "fp16"), Case("tensorrt", "fp32"), Case("tensorrt", "fp16"))


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__)
    parser.add_argument("--models-dir", type=Path, default=Path(".sluice/bench/models"))
    parser.add_argument("--seconds", type=int, default=5, help="of each load through the whole path. Default: 5")
    given = parser.parse_args()
    if not gpu_present():
        print("bench.gpu: no NVIDIA GPU here: the driver (libcuda) is absent or reports no device. Nothing measured.")
        return 1
    repository = artefacts.prepare(given.models_dir.resolve(), [(_MODEL, FP32), (_MODEL, FP16)])
    print("| what | provider, precision | batch or clients | images/s | p50 ms | p99 ms |\n|" + " --- |" * 6)
    for case in CASES:
        for line in _lines(case, repository, given.seconds):
            print(line, flush=True)
    return 0


def _lines(case: Case, repository: Repository, seconds: int) -> Iterator[str]:
    path = repository.path(_MODEL, case.version)
    if path is None:
        yield f"| left out: {repository.missing[_MODEL, case.version]} | {case} | | | | |"
        return
    for batch, rate, batch_ms in raw(case, path):
        yield f"| raw session.run | {case} | {batch} | {rate:.0f} | {batch_ms:.2f} | |"
    if not case.served:
        yield f"| consumer, whole path | {case}: consumers take fp16 with TensorRT | | | | |"
        return
    with tempfile.TemporaryDirectory(dir=interleaved.scratch()) as folder:
        yield f"| consumer alone | {case} | full stream | {_consumer(case, repository, Path(folder)):.0f} | | |"
        yield from _whole_path(case, repository, Path(folder), seconds)


def raw(case: Case, path: Path) -> Iterator[tuple[int, float, float]]:
    """Batch, images per second and ms of a batch, copies to and from the GPU included."""
    ort.preload_dlls()
    providers: list[tuple[str, dict[str, Any]]] = [(_PROVIDERS[case.provider], _options(case, path))]
    session = ort.InferenceSession(str(path), session_options(0), providers=providers)
    assert session.get_providers()[0] == _PROVIDERS[case.provider], session.get_providers()
    images = np.random.default_rng(1).integers(0, 256, (max(BATCHES), _SIZE, _SIZE, 3), np.uint8)
    for batch in BATCHES:
        feed = {"images": images[:batch]}
        session.run(None, feed)
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < _RAW_S:
            session.run(None, feed)
            count += 1
        yield batch, count * batch / spent, spent * 1000 / count


def _options(case: Case, path: Path) -> dict[str, Any]:
    """The consumers' own, but for TensorRT's precision."""
    if case.provider == "cuda":
        return cuda_options(graphs=False)
    stated = tensorrt_options(path, Execution(provider="tensorrt", max_batch=max(BATCHES)))
    cache = Path(stated["trt_engine_cache_path"]).with_name(f"bench-{case.precision}")
    caches = {"trt_engine_cache_path": str(cache), "trt_timing_cache_path": str(cache)}
    return {**stated, "trt_fp16_enable": case.precision == "fp16", **caches}


def _consumer(case: Case, repository: Repository, folder: Path) -> float:
    with full_stream.server(folder) as redis:
        return full_stream.rate_of_consumer(
            redis, folder, repository.folder, model=_MODEL, version=case.version, provider=case.provider
        )


def _whole_path(case: Case, repository: Repository, folder: Path, seconds: int) -> Iterator[str]:
    task = Task(repository.folder, _MODEL, case.version, folder, {"SLUICE_PROVIDER": case.provider})
    left_out: list[str] = []
    with interleaved.started(interleaved.by_name("sluice"), task, images.small(), left_out=left_out) as running:
        for one in running:
            upload = one.system.upload(images.small())
            for clients in _CLIENTS:

                def run(clients: int = clients) -> load.Sample:
                    return load.closed(one.port, upload, clients=clients, seconds=seconds)  # noqa: B023

                got, _ = measure(one, run)
                figures = f"{got.per_s:.0f} | {got.p50_ms:.2f} | {got.p99_ms:.1f}"
                yield f"| whole path | {case} | {clients} | {figures} |"
    yield from (f"| whole path | {case}: {why} | | | | |" for why in left_out)


if __name__ == "__main__":
    sys.exit(main())
