"""The Open Inference Protocol in the tests: a service with two models that lives for a module, and the truth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.support.models import tiny_model
from tests.support.processes import on_own_server

#: float32's own rounding, with room for a sum in another order.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Service:
    """`address` is host:port, as tritonclient wants it."""

    address: str
    models_dir: Path

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def direct(self, images: NDArray[np.uint8], name: str = "tiny") -> NDArray[np.float32]:
        """What ONNX Runtime answers when it is asked directly, float32 [N, classes]."""
        path = self.models_dir / name / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (answer,) = session.run(["probabilities"], {"images": images})
        return np.asarray(answer, np.float32)


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    """One ingest before two consumers: `tiny` takes 16 x 16 pixels, `photo` 224 x 224 as real models do."""
    models_dir = folder / "models"
    tiny_model.build(models_dir)
    tiny_model.build(models_dir, name="photo", size=224, classes=1000, seed=3)
    with on_own_server(folder, models_dir) as processes:
        for model in ("tiny", "photo"):
            processes.consumer(model=model)
        _, url = processes.ingest(upload_timeout_s=5)
        yield Service(url.removeprefix("http://"), models_dir)


def images(count: int, *, size: int = 16) -> NDArray[np.uint8]:
    """Random pixels uint8 [count, size, size, 3], no two images alike."""
    rng = np.random.default_rng(count + size)
    return np.asarray(rng.integers(0, 256, (count, size, size, 3)), np.uint8)


def assert_equal(answer: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
    """Within `TOLERANCE`, as float32 of the same shape."""
    assert answer.dtype == np.float32
    assert answer.shape == truth.shape
    np.testing.assert_allclose(answer, truth, rtol=0, atol=TOLERANCE)
