"""A session of ONNX Runtime as a function from images to probabilities.

On a provider that tunes itself for each shape (CUDA, TensorRT), batches are padded to a few sizes, and each size runs
once before the first image. The CPU takes any size, and runs a batch in chunks on its threads.
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers.batch_size import ChunkSizer, padded_sizes
from consumers.onnx.cuda_graphs import GraphRun
from consumers.onnx.parallel_run import ParallelRun
from consumers.onnx.providers import Execution, open_session, provider_of
from stream.host.malloc import give_back_freed_memory


class Session:
    """One loaded network: uint8 [N, height, width, 3] in, float32 [N, classes] out. One batch at a time."""

    def __init__(self, path: Path, execution: Execution) -> None:
        self._session = open_session(path, execution)
        # Loading ResNet50's file of 102 MB leaves 135 MB behind that are not used any more.
        give_back_freed_memory()
        self.provider = provider_of(self._session)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [(node.name, node.type, tuple(node.shape)) for node in self._session.get_inputs()]
        self.outputs = [(node.name, node.type, tuple(node.shape)) for node in self._session.get_outputs()]
        self._threads: int = self._session.get_session_options().intra_op_num_threads
        self._chunk_sizer = ChunkSizer(self._threads)
        self._device = execution.device
        self._padded_sizes = padded_sizes(execution.max_batch) if self.provider.tunes_by_shape else ()
        self._graphs: dict[int, GraphRun] = {}

    def warm(self, buffer: NDArray[np.uint8], *, cuda_graphs: bool) -> None:
        """Run each padded size once if the provider tunes itself by shape; `buffer` holds a full batch."""
        if cuda_graphs and self.provider.graphs:
            self._graphs = {
                size: GraphRun(self._session, buffer, size=size, device=self._device) for size in self._padded_sizes
            }
        for size in self._padded_sizes:
            self.run(buffer, size)

    def run(self, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        """Probabilities float32 [count, classes] of the first `count` images.

        Raises ONNX Runtime's errors, or ChunkFailed with their text.
        """
        outputs = self._run_padded(buffer, count) if self._padded_sizes else self._run_chunks(buffer[:count])
        return np.asarray(outputs, np.float32)

    def _run_padded(self, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        size = next((padded for padded in self._padded_sizes if count <= padded <= len(buffer)), count)
        if graph := self._graphs.get(size):
            return graph.run(buffer[:size])[:count]
        return self._run_at_once(buffer[:size])[:count]

    def _run_chunks(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        began_s = time.perf_counter()
        if (chunks := self._chunk_sizer.chunks(len(images))) == 1:
            outputs = self._run_at_once(images)
        else:
            outputs = ParallelRun(self._session, np.array_split(images, chunks)).run(self._threads)
        self._chunk_sizer.add_run(len(images), time.perf_counter() - began_s)
        return outputs

    def _run_at_once(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (name, *_), (output, *_) = self.inputs[0], self.outputs[0]
        outputs: NDArray[np.float32] = self._session.run([output], {name: images})[0]
        return outputs
