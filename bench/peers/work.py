"""The work that every peer does: a full decode and resize by Pillow, the network, the five best labels.

Settings come from the environment: BENCH_MODEL (the artefact's path), BENCH_PORT, BENCH_DRAFT (1: scaled decode).
"""

import io
import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

CORES = len(os.sched_getaffinity(0))

_BEST = 5


def port() -> int:
    return int(os.environ["BENCH_PORT"])


class Network:
    """The artefact in ONNX Runtime, on the CPU. `threads` of one run; none spins, since decoding needs the cores."""

    def __init__(self, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._labels: list[str] = json.loads(metadata["sluice.labels"])
        size = json.loads(metadata["sluice.input"])
        self._size = (size["width"], size["height"])
        self._draft = os.environ.get("BENCH_DRAFT") == "1"

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """uint8 [height, width, 3] of the network's input."""
        image = Image.open(io.BytesIO(data))
        if self._draft:
            # Twice the input's size at least, the same care that Sluice takes.
            image.draft("RGB", (self._size[0] * 2, self._size[1] * 2))
        return np.asarray(image.convert("RGB").resize(self._size, Image.Resampling.BICUBIC))

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [N, classes] of uint8 [N, height, width, 3]."""
        (found,) = self._session.run(None, {"images": batch})
        return np.asarray(found)

    def answer(self, probabilities: NDArray[np.float32]) -> dict[str, Any]:
        """What a client reads for float32 [classes]."""
        best = np.argsort(-probabilities)[:_BEST]
        return {
            "success": True,
            "predictions": [{"label": self._labels[i], "probability": float(probabilities[i])} for i in best],
        }
