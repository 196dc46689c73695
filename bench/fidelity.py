"""Fidelity: what a faster decode or a smaller model changes in the probabilities, on real images. No server."""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from bench.peers.work import CORES
from ingest.images.decode import to_pixels
from stream.model import ModelDescription, Resize

#: Where the reference leads by so much, its first label is more than a matter of chance.
LEAD = 0.1

_PIXELS = 50_000_000
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How the probabilities of one way differ from those of the reference, over `images`; `led` of them have a
    reference that leads by 0.1. Agreement is of the first label, a share; changes are of one probability."""

    images: int
    led: int
    agreement: float
    agreement_led: float
    largest_led: float
    mean_top: float


class Classifier:
    """An artefact in plain ONNX Runtime, one image at a time."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        metadata = self._session.get_modelmeta().custom_metadata_map
        size = json.loads(metadata["sluice.input"])
        resize = Resize(**json.loads(metadata["sluice.resize"]))
        labels = tuple(json.loads(metadata["sluice.labels"]))
        self.model = ModelDescription("fidelity", "1", "", size["height"], size["width"], resize, labels)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [classes] of uint8 [height, width, 3]."""
        (found,) = self._session.run(None, {"images": pixels[None]})
        return np.asarray(found[0])

    def by_ingest(self, data: bytes) -> NDArray[np.float32]:
        """Decoded as ingest does it."""
        pixels = to_pixels(data, self.model, _PIXELS)
        return self.probabilities(np.frombuffer(pixels, np.uint8).reshape(self.model.height, self.model.width, 3))

    def by_full_decode(self, data: bytes) -> NDArray[np.float32]:
        """Decoded in full and resized by Pillow."""
        return self.probabilities(full(data, self.model))


def full(data: bytes, model: ModelDescription) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: every pixel decoded, then resized as the artefact says, by Pillow alone."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    method = _FILTERS[model.resize.interpolation]
    if model.resize.mode == "squash":
        return np.asarray(image.resize((model.width, model.height), method))
    short = model.resize.shorter_side or model.height
    scale = short / min(image.size)
    image = image.resize((int(image.width * scale + 1e-6), int(image.height * scale + 1e-6)), method)
    left, top = round((image.width - model.width) / 2), round((image.height - model.height) / 2)
    return np.asarray(image.crop((left, top, left + model.width, top + model.height)))


Way = Callable[[bytes], NDArray[np.float32]]


#: Probabilities of one image, by the reference and by the other way.
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def answers(images: Mapping[str, bytes], reference: Way, other: Way) -> dict[str, Pair]:
    """Two ways over the same images, by the images' names."""
    with ThreadPoolExecutor(CORES) as pool:
        pairs = pool.map(lambda data: (reference(data), other(data)), images.values())
        return dict(zip(images, pairs, strict=True))


def difference(answered: Iterable[Pair]) -> Difference:
    """How the second of each pair differs from the first."""
    pairs = list(answered)
    led = [pair for pair in pairs if _lead(pair[0]) >= LEAD]
    return Difference(
        images=len(pairs),
        led=len(led),
        agreement=_agreement(pairs),
        agreement_led=_agreement(led),
        largest_led=max((float(np.abs(one - two).max()) for one, two in led), default=0.0),
        mean_top=float(np.mean([abs(float(one.max() - two[one.argmax()])) for one, two in pairs])),
    )


def _lead(probabilities: NDArray[np.float32]) -> float:
    second, first = np.partition(probabilities, -2)[-2:]
    return float(first - second)


def _agreement(pairs: list[Pair]) -> float:
    return float(np.mean([one.argmax() == two.argmax() for one, two in pairs])) if pairs else 1.0
