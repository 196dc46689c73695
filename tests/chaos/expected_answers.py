"""Images to send, each with the answer that is right for it. Knows no server.

The truth is computed before the run, by ONNX Runtime on the very pixels that ingest prepares, and images whose
truths are too alike are left out: an answer that belongs to another image is always seen to be wrong.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from consumers.onnx.artefact import describe
from consumers.onnx.providers import CPU, Execution
from consumers.onnx.session import Session
from ingest.images.decode import to_pixels
from results.outcome import Done
from stream.model import ModelDescription

#: Images that scikit-image carries in its package: people, animals, things, a street, the sky.
_SOURCES = ("astronaut", "camera", "cat", "coffee", "rocket", "brick", "grass", "coins", "retina", "hubble_deep_field")

#: Batches of different sizes add in different orders: float32 probabilities differ by about 1e-6.
_TOLERANCE = 1e-4

#: Truths that differ by less are too alike.
_DISTINCT = 0.01


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload: its bytes, the model's input made of them, and float32 [classes] that the model must say."""

    upload: bytes
    pixels: bytes
    truth: NDArray[np.float32]

    def answers(self, indices: Sequence[int], probabilities: Sequence[float]) -> bool:
        """Whether these are its most probable classes, in order; or all its classes, in any order."""
        said = np.asarray(probabilities)
        if len(set(indices)) < len(indices) or len(said) == 0:
            return False
        order = np.argsort(-said) if len(said) == len(self.truth) else np.arange(len(said))
        best = -np.sort(-self.truth)[: len(said)]
        own = self.truth[list(indices)]
        return bool(np.abs(said[order] - best).max() < _TOLERANCE and np.abs(said - own).max() < _TOLERANCE)


class ExpectedAnswers:
    """Images for one model."""

    def __init__(self, model_file: Path, *, count: int, seed: int) -> None:
        self._session = ort.InferenceSession(model_file, providers=["CPUExecutionProvider"])
        self.model: ModelDescription = describe(model_file, Session(model_file, CPU, Execution(max_batch=1)))
        self._columns: dict[str, list[int]] = {}
        for index, label in enumerate(self.model.labels):
            self._columns.setdefault(label, []).append(index)
        self.images: list[Upload] = []
        for upload in _uploads(np.random.default_rng(seed)):
            self._add(upload)
            if len(self.images) == count:
                return

    def _add(self, upload: bytes) -> None:
        pixels = to_pixels(upload, self.model, max_pixels=10_000_000)
        image = np.frombuffer(pixels, np.uint8).reshape(1, self.model.height, self.model.width, 3)
        (truth,) = self._session.run(None, {self._session.get_inputs()[0].name: image})[0]
        if all(np.abs(truth - other.truth).max() > _DISTINCT for other in self.images):
            self.images.append(Upload(upload, pixels, truth))

    def is_right(self, image: Upload, predictions: Sequence[dict[str, object]]) -> bool:
        """Whether an answer's predictions are right; a label may stand for several classes (ImageNet has two)."""
        indices = []
        probabilities = [float(str(one["probability"])) for one in predictions]
        for one, said in zip(predictions, probabilities, strict=True):
            columns = self._columns.get(str(one["label"]), [])
            free = [column for column in columns if column not in indices]
            if not free:
                return False
            indices.append(min(free, key=lambda column: abs(float(image.truth[column]) - said)))
        return image.answers(indices, probabilities)

    def knows(self, outcome: Done) -> bool:
        """Whether the outcome is right for any image at all."""
        return any(one.answers(outcome.indices, outcome.probabilities) for one in self.images)


def _uploads(rng: np.random.Generator) -> Iterator[bytes]:
    """Crops of the images without end, as JPEG or PNG files."""
    sources = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in _SOURCES]
    while True:
        source = sources[int(rng.integers(len(sources)))]
        width, height = (int(side * rng.uniform(0.2, 0.9)) for side in source.size)
        left, top = int(rng.integers(source.width - width)), int(rng.integers(source.height - height))
        crop = source.crop((left, top, left + width, top + height))
        stream = io.BytesIO()
        if rng.random() < 0.7:
            crop.save(stream, "JPEG", quality=int(rng.integers(70, 95)))
        else:
            crop.thumbnail((256, 256))
            crop.save(stream, "PNG")
        yield stream.getvalue()
