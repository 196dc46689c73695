"""The steps of `python -m bench.gpu` that run in its own process, with sessions as a consumer makes them."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from consumers.onnx.artefact import describe, golden
from consumers.onnx.providers import Execution, candidates
from consumers.onnx.session import Session

#: Figures by their names, with their units; `error` for a step that failed.
Measured = dict[str, float | str]

#: Changes of the batch size, and runs between two of them.
_CHANGES = 12
_STEADY = 4


def golden_difference(path: Path, execution: Execution) -> Measured:
    """How far the output for the golden input is from the golden output."""
    session, buffer = _warm(path, execution)
    expected = golden(session.metadata, describe(path, session))
    assert expected, "the artefact has a golden pair"
    buffer[0] = expected.image
    found = session.run(buffer, 1)[0]
    return {
        "largest_difference": float(np.abs(found - expected.output).max()),
        "same_top_1": str(bool(found.argmax() == expected.output.argmax())),
    }


def switching(path: Path, execution: Execution, batches: tuple[int, ...]) -> Measured:
    """How much longer the first run of another batch size takes than the following ones of that size."""
    session, buffer = _warm(path, execution)
    stalls = []
    for change in range(_CHANGES):
        size = batches[change % len(batches)]
        first, *steady = (_timed(lambda: session.run(buffer, size)) for _ in range(1 + _STEADY))  # noqa: B023
        stalls.append((first - statistics.median(steady)) * 1000)
    return {"median_stall_ms": statistics.median(stalls), "worst_stall_ms": max(stalls)}


def raw_rates(path: Path, execution: Execution, batches: tuple[int, ...], seconds: float) -> dict[str, float]:
    """Images per second by batch size, copies to and from the device included."""
    session, buffer = _warm(path, execution)
    found = {}
    for size in batches:
        count, began_s = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - began_s) < seconds:
            session.run(buffer, size)
            count += size
        found[f"batch {size}, images_per_s"] = count / spent_s
    return found


def copies(path: Path, execution: Execution) -> Measured:
    """What could be gained if the copy of one batch ran beside the computation of another."""
    session, buffer = _warm(path, execution)
    whole_s = min(_timed(lambda: session.run(buffer, len(buffer))) for _ in range(5))
    device = "cuda" if session.provider.on_gpu else "cpu"
    value = ort.OrtValue.ortvalue_from_numpy(buffer, device, execution.device)
    copy_s = min(_timed(lambda: value.update_inplace(buffer)) for _ in range(5))
    return {"batch_ms": whole_s * 1000, "copy_ms": copy_s * 1000, "most_gain": whole_s / max(whole_s - copy_s, copy_s)}


def _warm(path: Path, execution: Execution) -> tuple[Session, NDArray[np.uint8]]:
    """A session on the one provider of this execution, and a batch of noise."""
    (provider,) = candidates(execution)
    session = Session(path, provider, execution)
    _, _, (_, *shape) = session.inputs[0]
    buffer = np.random.default_rng(1).integers(0, 256, (execution.max_batch, *shape), np.uint8)
    session.warm(buffer)
    session.run(buffer, 1)
    return session, buffer


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
