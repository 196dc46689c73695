"""A session of ONNX Runtime as a function from images to outputs.

On a provider that tunes itself for each shape (CUDA, TensorRT), batches are padded to a few sizes, and each size runs
once before the first image. The CPU takes any size, and runs a batch in chunks on its threads.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from consumers.batch import Buffer
from consumers.batch_size import ChunkSizer, padded_sizes
from consumers.onnx.assignment import RECORD, assignment_of, check_assignment
from consumers.onnx.cuda_graphs import GraphRun
from consumers.onnx.model_file import read_metadata
from consumers.onnx.parallel_run import ParallelRun
from consumers.onnx.providers import (
    CPU,
    CUDA,
    TENSORRT,
    Execution,
    Provider,
    ProviderError,
    cuda_options,
    provider_of,
    require_cuda,
    session_options,
)
from consumers.onnx.tensorrt import require_tensorrt, tensorrt_options
from stream.host.malloc import give_back_freed_memory

logger = logging.getLogger(__name__)

#: While one session captures a CUDA graph, another that runs in the same process could break the capture: CUDA allows
#: no other work that synchronises the device (CUDA runtime API, cudaStreamCaptureModeGlobal).
_ONE_ON_CUDA = threading.Lock()


class Session:
    """One loaded network: [N, height, width, channels] of a buffer in, float32 [N, outputs] out. One batch at a time.

    Every call must come from the same thread: CUDA graphs belong to the thread that captured them. The constructor
    raises ProviderError if the network does not run on this provider.
    """

    def __init__(self, path: Path, provider: Provider, execution: Execution) -> None:
        self.provider = provider
        self._path = path
        self._execution = execution
        self._graph_capture = provider.graphs and execution.cuda_graphs
        self._session = self._open()
        # Loading ResNet50's file of 102 MB leaves 135 MB behind that are not used any more.
        give_back_freed_memory()
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [(node.name, node.type, tuple(node.shape)) for node in self._session.get_inputs()]
        self.outputs = [(node.name, node.type, tuple(node.shape)) for node in self._session.get_outputs()]
        self._threads: int = self._session.get_session_options().intra_op_num_threads
        self._chunk_sizer = ChunkSizer(self._threads)
        self._padded_sizes = padded_sizes(execution.max_batch) if provider.tunes_by_shape else ()
        self._graphs: dict[int, GraphRun] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that the provider computes in ways of their own; only 1 if they are all alike to it."""
        return self._padded_sizes or (1,)

    def _open(self) -> ort.InferenceSession:
        """With CUDA graphs if that works: ONNX Runtime refuses them if any operation is not on the GPU."""
        if self._graph_capture:
            try:
                return open_session(self._path, self.provider, self._execution, graphs=True)
            except ProviderError as error:
                return self._without_graphs(error)
        return open_session(self._path, self.provider, self._execution)

    def _without_graphs(self, error: Exception) -> ort.InferenceSession:
        session = open_session(self._path, self.provider, self._execution)
        logger.info("CUDA graphs are off for this network: %s", error)
        self._graph_capture = False
        self._graphs = {}
        return session

    def warm(self, buffer: Buffer) -> None:
        """Run each padded size once if the provider tunes itself by shape; `buffer` holds a full batch."""
        if self._graph_capture:
            try:
                self._capture(buffer)
            except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base)
                self._session = self._without_graphs(error)
        for size in self._padded_sizes:
            self.run(buffer, size)

    def _capture(self, buffer: Buffer) -> None:
        device = self._execution.device
        self._graphs = {size: GraphRun(self._session, buffer, size=size, device=device) for size in self._padded_sizes}
        for size in self._padded_sizes:
            self.run(buffer, size)

    def run(self, buffer: Buffer, count: int) -> NDArray[np.float32]:
        """Outputs float32 [count, outputs] of the first `count` images.

        Raises ONNX Runtime's errors, or ChunkFailed with their text.
        """
        if not self._padded_sizes:
            outputs = self._run_chunks(buffer[:count])
        else:
            with _ONE_ON_CUDA:
                outputs = self._run_padded(buffer, count)
        return np.asarray(outputs, np.float32)

    def _run_padded(self, buffer: Buffer, count: int) -> NDArray[np.float32]:
        size = next((padded for padded in self._padded_sizes if count <= padded <= len(buffer)), count)
        if graph := self._graphs.get(size):
            return graph.run(buffer[:size])[:count]
        return self._run_at_once(buffer[:size])[:count]

    def _run_chunks(self, images: Buffer) -> NDArray[np.float32]:
        began_s = time.perf_counter()
        if (chunks := self._chunk_sizer.chunks(len(images))) == 1:
            outputs = self._run_at_once(images)
        else:
            outputs = ParallelRun(self._session, np.array_split(images, chunks)).run(self._threads)
        self._chunk_sizer.add_run(len(images), time.perf_counter() - began_s)
        return outputs

    def _run_at_once(self, images: Buffer) -> NDArray[np.float32]:
        (name, *_), (output, *_) = self.inputs[0], self.outputs[0]
        outputs: NDArray[np.float32] = self._session.run([output], {name: images})[0]
        return outputs


def open_session(path: Path, provider: Provider, execution: Execution, *, graphs: bool = False) -> ort.InferenceSession:
    """A session on this provider and no other.

    Raises ProviderError with ONNX Runtime's reason. It would fall back to the CPU by itself, when the session is made
    and again in a failing run, unless `enable_fallback` is 0.
    """
    if provider.on_gpu:
        require_cuda(execution.device)
    if provider is TENSORRT:
        require_tensorrt()
    options = session_options(execution.threads)
    # On the CPU, memory planned ahead for each batch size saves no time, and ResNet50 takes 50 MB more.
    options.enable_mem_pattern = provider.on_gpu
    if provider is not CPU:
        options.add_session_config_entry(*RECORD)
    try:
        path.open("rb").close()  # ONNX Runtime would name an error of the system by its number.
    except OSError as error:
        raise ProviderError(f"cannot read {path}: {error.strerror}") from error
    chosen = _with_options(path, provider, execution, graphs=graphs)
    try:
        session = ort.InferenceSession(str(path), options, providers=chosen, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
        raise ProviderError(f"cannot load {path}: {' '.join(str(error).split())}") from error
    if (reported := provider_of(session)) is not provider:
        raise ProviderError(f"asked for {provider.ort_name}, ONNX Runtime took {reported.ort_name}")
    if provider is not CPU:
        check_assignment(assignment_of(session), provider)
    return session


def _with_options(
    path: Path, provider: Provider, execution: Execution, *, graphs: bool
) -> list[tuple[str, dict[str, Any]]]:
    """The provider with its options, and those that run what it cannot run."""
    cpu: tuple[str, dict[str, Any]] = (CPU.ort_name, {})
    if provider is CPU:
        return [cpu]
    if not provider.on_gpu:
        return [(provider.ort_name, {}), cpu]
    precision = read_metadata(path).get("sluice.precision", "fp32")
    options = cuda_options(
        graphs=graphs, device=execution.device, precision=precision, strict_fp32=execution.strict_fp32
    )
    cuda = (CUDA.ort_name, options)
    if provider is TENSORRT:
        return [(TENSORRT.ort_name, tensorrt_options(path, execution)), cuda, cpu]
    return [cuda, cpu]
