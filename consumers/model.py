"""A loaded model: uint8 batches in, probabilities out. Knows no Redis.

Where the provider tunes itself anew for each shape (CUDA, TensorRT), batches are padded to a few sizes, the
buckets, and each bucket runs once before the consumer joins the group. The CPU takes any size as it comes.
"""

import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from consumers.artefact import ArtefactError, Golden, describe, golden
from consumers.buffers import BucketBuffers
from consumers.provider import Execution, open_session
from stream.model import ModelDescription

_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

#: Largest difference of a probability between the framework and this provider. fp32 differs by about 1e-6
#: (measured at export); fp16 and int8 round by design, and TensorRT runs in fp16.
_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 2e-1}


class GoldenMismatch(Exception):
    """The model does not answer its golden input here as it did when it was exported."""


class Model:
    """A model on one provider, warm. Not thread-safe: one run at a time."""

    def __init__(self, path: Path, execution: Execution) -> None:
        self._session: ort.InferenceSession = open_session(path, execution)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description: ModelDescription = describe(path, metadata)
        self.provider: str = self._session.get_providers()[0]
        self.max_batch = execution.max_batch
        (self._input,) = (one.name for one in self._session.get_inputs())
        self._outputs = [self._session.get_outputs()[0].name]
        self._check_shape(path)
        self._buckets = () if self.provider == "CPUExecutionProvider" else buckets(self.max_batch)
        self._buffers = self._bind() if execution.cuda_graphs and self.provider == "CUDAExecutionProvider" else {}
        self._check_golden(golden(metadata, self.description))
        self.image_s = self._warm()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return (self.description.height, self.description.width, 3)

    def slot(self) -> NDArray[np.uint8]:
        """A buffer for one batch: uint8 [max_batch, height, width, 3]."""
        return np.zeros((self.max_batch, *self.input_shape), np.uint8)

    def run(self, slot: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        """Probabilities float32 [count, classes] of the first `count` images of a slot.

        Raises what ONNX Runtime raises.
        """
        size = next((bucket for bucket in self._buckets if bucket >= count), count)
        if bound := self._buffers.get(size):
            return bound.run(slot[:size])[:count]
        (probabilities,) = self._session.run(self._outputs, {self._input: slot[:size]})
        return np.asarray(probabilities[:count], np.float32)

    def _bind(self) -> dict[int, BucketBuffers]:
        return {bucket: BucketBuffers(self._session, self.slot(), bucket=bucket) for bucket in self._buckets}

    def _warm(self) -> float:
        """Run each bucket once; returns the seconds of one image by itself, measured on a warm model."""
        slot = self.slot()
        for size in self._buckets:
            self.run(slot, size)
        started = time.perf_counter()
        self.run(slot, 1)
        return time.perf_counter() - started

    def _check_shape(self, path: Path) -> None:
        (model_input,) = self._session.get_inputs()
        if model_input.type != "tensor(uint8)" or list(model_input.shape[1:]) != list(self.input_shape):
            raise ArtefactError(
                f"{path}: input {model_input.type} {model_input.shape}, but the metadata say uint8 [N, "
                f"{self.description.height}, {self.description.width}, 3]; export it anew"
            )

    def _check_golden(self, expected: Golden) -> None:
        slot = self.slot()
        slot[0] = expected.image
        difference = float(np.abs(self.run(slot, 1)[0] - expected.probabilities).max())
        precision = "fp16" if self.provider == "TensorrtExecutionProvider" else self.description.precision
        if not difference <= _TOLERANCE[precision]:
            raise GoldenMismatch(
                f"{self.description.name}/{self.description.version} on {self.provider} differs by {difference:.2g} "
                f"from its golden output, more than {_TOLERANCE[precision]:g}: this provider computes it wrong"
            )


def buckets(max_batch: int) -> tuple[int, ...]:
    """The powers of two below `max_batch`, and `max_batch` itself."""
    return (*(size for size in _BUCKETS if size < max_batch), max_batch)
