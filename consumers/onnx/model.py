"""The model that a consumer serves: checked against its golden output, loaded when it is needed. Knows no Redis."""

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

#: Largest difference of a probability to the golden output. Of fp32 that is what the framework answered, and the
#: difference about 1e-6; TensorRT computes the same in fp16. Of fp16 and int8 it is what this very file answers on the
#: CPU, so what rounding costs is no part of it: int8 differs by up to 0.03 where a provider computes the
#: convolutions in float instead (EfficientNet-Lite0, 46 pictures), a wrong one by several tenths.
_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}


class GoldenMismatch(Exception):
    """The model does not answer its golden input here as it did when it was exported."""


class Model:
    """A model on one provider, warm. Not thread-safe: one run at a time.

    Raises ArtefactError, ProviderError or GoldenMismatch when it is made.
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
        self.image_s = self._time_of_one()

    @property
    def loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._session is not None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return (self.description.height, self.description.width, 3)

    def slot(self) -> NDArray[np.uint8]:
        """A buffer for one batch: uint8 [max_batch, height, width, 3]."""
        return np.zeros((self.max_batch, *self.input_shape), np.uint8)

    def run(self, slot: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
        """Probabilities float32 [count, classes] of the first `count` images of a slot.

        Loads the network again where it was unloaded. Raises what Session.run raises.
        """
        if self._session is None:
            session = Session(self._path, self._execution)
            self._prepare(session)
            self._session = session
            logger.info("loaded again model=%s version=%s", self.description.name, self.description.version)
        return self._session.run(slot, count)

    def unload(self) -> None:
        """Free the network's memory until the next run."""
        self._session = None
        give_back_freed_memory()
        logger.info("unloaded model=%s version=%s", self.description.name, self.description.version)

    def _prepare(self, session: Session) -> None:
        session.warm(self.slot(), cuda_graphs=self._execution.cuda_graphs)
        if expected := golden(session.metadata, self.description):
            self._check(session, expected)
        MODEL_LOADS.inc()

    def _check(self, session: Session, expected: Golden) -> None:
        slot = self.slot()
        slot[0] = expected.image
        difference = float(np.abs(session.run(slot, 1)[0] - expected.probabilities).max())
        precision = "fp16" if self.provider == "TensorrtExecutionProvider" else self.description.precision
        if not difference <= _TOLERANCE[precision]:
            raise GoldenMismatch(
                f"{self.description.name}/{self.description.version} on {self.provider} differs by {difference:.2g} "
                f"from its golden output, more than {_TOLERANCE[precision]:g}: this provider computes it wrong"
            )

    def _time_of_one(self) -> float:
        slot = self.slot()
        self.run(slot, 1)
        started = time.perf_counter()
        self.run(slot, 1)
        return time.perf_counter() - started
