"""The model that a consumer serves: warmed up, checked against its golden output, unloaded and loaded again."""

import logging
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumers.metrics import MODEL_LOADS
from consumers.onnx.artefact import Golden, describe, golden
from consumers.onnx.providers import Execution
from consumers.onnx.session import Session
from stream.host.malloc import give_back_freed_memory

logger = logging.getLogger(__name__)

#: Largest difference of a probability to the golden output. The golden output of fp32 comes from the framework, and the
#: difference is about 1e-6; TensorRT computes the same file in fp16. The golden output of fp16 and int8 comes from this
#: very file on the CPU, so it contains the rounding: int8 differs by up to 0.03 if a provider computes the
#: convolutions in float instead (EfficientNet-Lite0, 46 images), a wrong result by several tenths.
_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}


class GoldenMismatch(Exception):
    """The model's output for its golden input differs here from what it was when it was exported."""


class Model:
    """A model on one provider, warmed up. Not thread-safe: one run at a time.

    The constructor raises ArtefactError, ProviderError or GoldenMismatch.
    """

    def __init__(self, path: Path, execution: Execution) -> None:
        self._path = path
        self._execution = execution
        session = Session(path, execution)
        self.description = describe(path, session)
        self.provider = session.provider
        self.max_batch = execution.max_batch
        self._session: Session | None = session
        self._prepare(session)
        self.image_s = self._measure_one_image()

    @property
    def loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._session is not None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return (self.description.height, self.description.width, 3)

    def new_buffer(self) -> NDArray[np.uint8]:
        """An input buffer for one batch: uint8 [max_batch, height, width, 3]."""
        return np.zeros((self.max_batch, *self.input_shape), np.uint8)

    def run(self, buffer: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        """Probabilities float32 [count, classes] of the first `count` images of a buffer.

        Loads the network again if it was unloaded. Raises the errors of Session.run.
        """
        if self._session is None:
            session = Session(self._path, self._execution)
            self._prepare(session)
            self._session = session
            logger.info("loaded again model=%s version=%s", self.description.name, self.description.version)
        return self._session.run(buffer, count)

    def unload(self) -> None:
        """Free the network's memory until the next run."""
        self._session = None
        give_back_freed_memory()
        logger.info("unloaded model=%s version=%s", self.description.name, self.description.version)

    def _prepare(self, session: Session) -> None:
        session.warm(self.new_buffer(), cuda_graphs=self._execution.cuda_graphs)
        if expected := golden(session.metadata, self.description):
            self._check(session, expected)
        MODEL_LOADS.inc()

    def _check(self, session: Session, expected: Golden) -> None:
        buffer = self.new_buffer()
        buffer[0] = expected.image
        difference = float(np.abs(session.run(buffer, 1)[0] - expected.probabilities).max())
        precision = "fp16" if self.provider.computes_fp16 else self.description.precision
        if not difference <= _TOLERANCE[precision]:
            about = self.description
            raise GoldenMismatch(
                f"{about.name}/{about.version} on {self.provider.ort_name} differs by {difference:.2g} from its golden "
                f"output, more than {_TOLERANCE[precision]:g}: the results of this provider are wrong"
            )

    def _measure_one_image(self) -> float:
        buffer = self.new_buffer()
        self.run(buffer, 1)
        started = time.perf_counter()
        self.run(buffer, 1)
        return time.perf_counter() - started
