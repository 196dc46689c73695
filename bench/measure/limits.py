"""The limits: what decoding and the network cost with nothing around them. No server, no Redis."""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from bench.peers.work import CORES
from ingest.images.decode import to_pixels
from stream.model import ModelDescription, Resize

BATCHES = (1, 2, 4, 8, 16, 32)

_SIZE = 224
_PIXELS = 50_000_000
_MODEL = ModelDescription("limits", "1", "", _SIZE, _SIZE, Resize("squash", "bicubic"), ("only",))


@dataclass(frozen=True, slots=True)
class Decoding:
    """One way to make the network's input of an image: CPU ms of one, alone on a core, and how many per second
    all cores make together."""

    how: str
    image: str
    cpu_ms: float
    all_cores_per_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """`session.run` at one batch size: images per second, and the ms of one batch."""

    model: str
    batch: int
    images_per_s: float
    batch_ms: float


def decode_full(data: bytes) -> bytes:
    """As the peers do it: Pillow, every pixel."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC).tobytes()


def decode_draft(data: bytes) -> bytes:
    """Pillow's scaled decode, down to twice the input's size."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * _SIZE, 2 * _SIZE))
    return image.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC).tobytes()


def decode_as_ingest(data: bytes) -> bytes:
    """What ingest does with an upload."""
    return to_pixels(data, _MODEL, _PIXELS)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "full (Pillow)": decode_full,
    "draft (Pillow)": decode_draft,
    "as ingest does": decode_as_ingest,
}


def decoding(how: str, name: str, data: bytes, *, seconds: float = 1.0) -> Decoding:
    """Measure one way on one image."""
    decode = WAYS[how]
    decode(data)
    cpu_ms = _alone_ms(lambda: decode(data), seconds / 2)
    return Decoding(how, name, cpu_ms, _together_per_s(lambda: decode(data), seconds / 2))


def _alone_ms(work: Callable[[], object], seconds: float) -> float:
    count, began, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < seconds or count < 3:
        work()
        count += 1
    return (time.thread_time() - cpu) * 1000 / count


def _together_per_s(work: Callable[[], object], seconds: float) -> float:
    began = time.perf_counter()

    def repeat() -> int:
        count = 0
        while time.perf_counter() - began < seconds or count < 2:
            work()
            count += 1
        return count

    with ThreadPoolExecutor(CORES) as pool:
        counts = [future.result() for future in [pool.submit(repeat) for _ in range(CORES)]]
    return sum(counts) / (time.perf_counter() - began)


class Raw:
    """A session with ONNX Runtime's own defaults (threads spin) on all cores, and nothing around it."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = CORES
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._images = np.random.default_rng(1).integers(0, 256, (max(BATCHES), _SIZE, _SIZE, 3), np.uint8)
        self.model = f"{path.parent.parent.name}/{path.parent.name}"

    def run(self, batch: int, *, seconds: float) -> Run:
        """Images per second at one batch size, over at least `seconds` and two runs."""
        feed = {"images": self._images[:batch]}
        self._session.run(None, feed)
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds or count < 2:
            self._session.run(None, feed)
            count += 1
        return Run(self.model, batch, count * batch / spent, spent * 1000 / count)


def pipeline_per_s(how: str, data: bytes, path: Path, *, seconds: float = 2.0) -> float:
    """Decoding on all cores and `session.run` of each by itself in the same threads: the ceiling of any server."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def work() -> object:
        pixels = np.frombuffer(WAYS[how](data), np.uint8).reshape(1, _SIZE, _SIZE, 3)
        return session.run(None, {"images": pixels})

    return _together_per_s(work, seconds)
