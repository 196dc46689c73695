"""A session of ONNX Runtime as a function from pictures to probabilities. Knows no Redis and no metadata.

Where the provider tunes itself anew for each shape (CUDA, TensorRT), batches are padded to a few sizes, the
buckets, and each bucket runs once before the first image. The CPU takes any size, and runs a batch in portions on
its threads.
"""

import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers.onnx.cuda_graphs import BucketBuffers
from consumers.onnx.parallel_run import Portions
from consumers.onnx.providers import Execution, open_session
from stream.host.malloc import give_back_freed_memory

#: Pictures in a portion, which one thread of the CPU runs. More only take memory, 10 MB each in ResNet50, and time
#: where what lies between two layers no longer fits the caches: with 2 threads and 2 MB of L2, 32 at once take as long
#: as 8 portions of 4 in ResNet50, and 1.2 times as long in EfficientNet-Lite0 (AMD EPYC, fp32 and int8).
_PORTION = 2

#: Portions only where this share of all threads has one in every round, one picture each. Three pictures on two threads
#: take 0.8 (ResNet50) to 0.9 of the time (EfficientNet-Lite0, int8) without; with 5, one left over, it is the same.
_BUSY = 0.8

#: Pictures that take no longer than this together run together, however many they are: to call a run costs time as
#: well, and in so short a time no network writes more than some 20 MB between its layers.
_SHORT_S = 0.002


class Session:
    """One loaded network: uint8 [N, height, width, 3] in, float32 [N, classes] out. One batch at a time."""

    def __init__(self, path: Path, execution: Execution) -> None:
        self._session = open_session(path, execution)
        # Of ResNet50's file of 102 MB, loading leaves behind 135 MB that nobody uses any more.
        give_back_freed_memory()
        self.provider: str = self._session.get_providers()[0]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [(one.name, one.type, tuple(one.shape)) for one in self._session.get_inputs()]
        self.outputs = [(one.name, one.type, tuple(one.shape)) for one in self._session.get_outputs()]
        self._threads: int = self._session.get_session_options().intra_op_num_threads
        self._image_s = math.inf
        self._device = execution.device
        self._buckets = () if self.provider == "CPUExecutionProvider" else buckets(execution.max_batch)
        self._bound: dict[int, BucketBuffers] = {}

    def warm(self, slot: NDArray[np.uint8], *, cuda_graphs: bool) -> None:
        """Run each bucket once, where the provider tunes itself by shape; `slot` is a buffer of a full batch."""
        if cuda_graphs and self.provider == "CUDAExecutionProvider":
            self._bound = {
                size: BucketBuffers(self._session, slot, bucket=size, device=self._device) for size in self._buckets
            }
        for size in self._buckets:
            self.run(slot, size)

    def run(self, slot: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        """Probabilities float32 [count, classes] of the first `count` images.

        Raises what ONNX Runtime raises, or PortionFailed with its words.
        """
        answers = self._run_padded(slot, count) if self._buckets else self._run_portions(slot[:count])
        return np.asarray(answers, np.float32)

    def _run_padded(self, slot: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        size = next((bucket for bucket in self._buckets if count <= bucket <= len(slot)), count)
        if bound := self._bound.get(size):
            return bound.run(slot[:size])[:count]
        return self._run_at_once(slot[:size])[:count]

    def _run_portions(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        began = time.perf_counter()
        if (portions := self._portions(len(images))) == 1:
            answers = self._run_at_once(images)
        else:
            answers = Portions(self._session, np.array_split(images, portions)).run(self._threads)
        # The shortest: what others take of the cores makes no network larger.
        self._image_s = min(self._image_s, (time.perf_counter() - began) / len(images))
        return answers

    def _run_at_once(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (name, *_), (output, *_) = self.inputs[0], self.outputs[0]
        answers: NDArray[np.float32] = self._session.run([output], {name: images})[0]
        return answers

    def _portions(self, count: int) -> int:
        """As many for each thread, so that all end together. 1, which all threads run together, where pictures are so
        few that some threads would have none to begin or to end with."""
        rounds = -(-count // self._threads)
        few = count < self._threads or count < _BUSY * rounds * self._threads
        if few or count * self._image_s <= _SHORT_S:
            return 1
        in_one_round = self._threads * max(_PORTION, int(_SHORT_S / self._image_s))
        return self._threads * -(-count // in_one_round)


def buckets(max_batch: int) -> tuple[int, ...]:
    """The powers of two below `max_batch`, and `max_batch` itself."""
    powers = (1 << exponent for exponent in range(max_batch.bit_length()))
    return (*(size for size in powers if size < max_batch), max_batch)
