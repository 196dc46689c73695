"""Runs a session by CUDA graphs: for each padded batch size, a graph captured over device buffers of fixed addresses.

A graph replays a whole network with one call to the driver instead of one for each of its kernels. It needs the same
addresses and the same shape at each replay. Source: ONNX Runtime's documentation of the CUDA execution provider,
"Using CUDA Graphs".
"""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from consumers.batch import Buffer

_DEVICE = "cuda"


class GraphRun:
    """Input and output buffers of one batch size, bound to the session. One run at a time, from one thread."""

    def __init__(self, session: ort.InferenceSession, buffer: Buffer, *, size: int, device: int) -> None:
        self._session = session
        (model_input,), (model_output, *_) = session.get_inputs(), session.get_outputs()
        self._input = ort.OrtValue.ortvalue_from_numpy(buffer[:size], _DEVICE, device)
        shape = [size, *model_output.shape[1:]]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, _DEVICE, device)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(model_input.name, self._input)
        self._binding.bind_ortvalue_output(model_output.name, self._output)
        self._options = ort.RunOptions()
        # Each size has a graph of its own; the first run with a new number captures it.
        self._options.add_run_config_entry("gpu_graph_id", str(size))

    def run(self, images: Buffer) -> NDArray[np.float32]:
        """Output float32 [size, classes] for images [size, height, width, channels]."""
        self._input.update_inplace(np.ascontiguousarray(images))
        self._session.run_with_iobinding(self._binding, self._options)
        return np.asarray(self._output.numpy(), np.float32)
