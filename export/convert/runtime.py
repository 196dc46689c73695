"""ONNX Runtime on the CPU, as the witness of what a graph answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.artefact.description import INPUT_NAME, OUTPUT_NAME
from export.errors import ConversionFailed

#: Images in one run, where nothing else is asked: memory stays small and the cores are busy.
BATCH = 8

VERSION: str = onnxruntime.__version__

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def answering(model: bytes | Path) -> Callable[[Pixels], Floats]:
    """The probabilities of a graph in the artefact's form; raises ConversionFailed where it can't be loaded."""
    run_session: Callable[..., list[Floats]] = session(model).run

    def answer(images: Pixels) -> Floats:
        return run_session([OUTPUT_NAME], {INPUT_NAME: images})[0]

    return answer


def session(model: bytes | Path, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """Raises ConversionFailed where ONNX Runtime can't load the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; TensorFlow's names make for many warnings
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # One exception for each of ONNX Runtime's status codes, none with a common base of its own.
    except Exception as error:
        raise ConversionFailed(f"ONNX Runtime can't load the network: {error}") from error


def in_batches(answer: Callable[[Pixels], Floats], images: Pixels, *, size: int = BATCH) -> Floats:
    """`answer` for all images, `size` at a time."""
    return np.concatenate([answer(images[start : start + size]) for start in range(0, len(images), size)])
