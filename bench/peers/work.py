"""The work that every peer does: decode and resize the image, run the network, name the five best labels.

Settings come from the environment: BENCH_MODEL (the artefact's path), BENCH_PORT, and BENCH_DECODER: `pillow` (a full
decode, the default), `draft` (a scaled decode by Pillow), or `sluice` (the decoder of ingest).
"""

import io
import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from ingest.images.decode import to_pixels
from stream.model import ModelDescription, Resize

CORES = len(os.sched_getaffinity(0))

_BEST = 5

#: Far above the images that are sent.
_MAX_PIXELS = 50_000_000


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
        self._decoder = os.environ.get("BENCH_DECODER", "pillow")
        resize = Resize("squash", "bicubic")
        self._model = ModelDescription("peer", "1", "", size["height"], size["width"], resize, tuple(self._labels))

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """uint8 [height, width, 3] of the network's input."""
        if self._decoder == "sluice":
            pixels = to_pixels(data, self._model, _MAX_PIXELS)
            return np.frombuffer(pixels, np.uint8).reshape(self._model.height, self._model.width, 3)
        image = Image.open(io.BytesIO(data))
        if self._decoder == "draft":
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
