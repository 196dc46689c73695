"""Runs a graph with ONNX Runtime on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.artefact.description import INPUT_NAME
from export.errors import ConversionFailed
from export.images.resize import Images, as_input

#: Images in one run if nothing else is asked: memory stays small and the cores are busy.
BATCH = 8

VERSION: str = onnxruntime.__version__

Floats = npt.NDArray[np.float32]


def answering(model: bytes | Path) -> Callable[[Images], Floats]:
    """What a graph in the artefact's form answers to images; raises ConversionFailed if it can't be loaded or run."""
    running = session(model)
    (given,), (output,) = running.get_inputs(), running.get_outputs()
    rounded = given.type == "tensor(uint8)"

    def answer(images: Images) -> Floats:
        return run(running, output.name, {INPUT_NAME: as_input(images, rounded=rounded)})

    return answer


def run(running: onnxruntime.InferenceSession, output: str, feeds: dict[str, npt.NDArray[np.generic]]) -> Floats:
    """One output as float32; raises ConversionFailed with ONNX Runtime's reason."""
    try:
        return np.asarray(running.run([output], feeds)[0], np.float32)
    # One exception for each of ONNX Runtime's status codes, none with a common base of its own.
    except Exception as error:
        raise ConversionFailed(f"ONNX Runtime cannot run the network: {error}") from error


def session(model: bytes | Path, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """Raises ConversionFailed if ONNX Runtime can't load the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is in the exception; TensorFlow's names make for many warnings
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionFailed(f"ONNX Runtime cannot load the network: {error}") from error


def in_batches(answer: Callable[[Images], Floats], images: Images) -> Floats:
    """`answer` for all images, `BATCH` at a time."""
    return np.concatenate([answer(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
