"""The model that a consumer serves, and the thread that runs it.

It runs on the first provider that computes it correctly, checked at every load. Another version can take its place.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from consumers.batch import Buffer, invalid_rows
from consumers.metrics import MODEL_LOADS
from consumers.onnx.artefact import ArtefactError, Golden, describe, golden
from consumers.onnx.model_file import digest
from consumers.onnx.providers import Execution, Provider, ProviderError, candidates
from consumers.onnx.session import Session
from stream.host.malloc import give_back_freed_memory
from stream.model import ModelDescription

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Largest difference of a probability to the golden output, by the precision in which the provider computes.
#: - fp32: the golden output comes from the framework, and the difference is about 1e-6.
#: - TF32 has as many bits of mantissa as fp16: simulated, it differs by up to 6e-3 (EfficientNet-Lite0, ResNet50).
#: - fp16 and int8 files: the golden output comes from this very file on the CPU, so it contains the rounding. int8
#:   differs by up to 0.03 if a provider computes the convolutions in float (EfficientNet-Lite0, 46 images), a wrong
#:   result by several tenths.
_TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "int8": 5e-2}


class GoldenMismatch(Exception):
    """The model's output for its golden input differs here from what it was when it was exported."""


class ModelFailed(Exception):
    """The model that was served cannot be used any more: the consumer is at fault, not the images."""


class Model:
    """A model on one provider, warmed up. Every method must be called from the same thread, one at a time.

    The constructor raises ArtefactError, ProviderError or GoldenMismatch.
    """

    def __init__(self, path: Path, execution: Execution) -> None:
        self._path = path
        self._execution = execution
        self.max_batch = execution.max_batch
        session, self.description = self._first_that_works()
        self._session: Session | None = session
        self.provider: Provider = session.provider
        if "sluice.format" not in session.metadata:
            self._refuse_unless_probabilities(session)
        self.image_s = self._measure_one_image()

    def _first_that_works(self) -> tuple[Session, ModelDescription]:
        """The model on the best provider that loads it and passes the golden check."""
        wanted = candidates(self._execution)
        failures = []
        for provider in wanted[:-1]:
            try:
                return self._load(provider)
            except (ProviderError, GoldenMismatch) as error:
                logger.warning("provider %s does not work here, trying the next: %s", provider.name, error)
                failures.append(f"{provider.name}: {error}")
        try:
            return self._load(wanted[-1])
        except ProviderError as error:
            raise ProviderError("; ".join([*failures, f"{wanted[-1].name}: {error}"])) from error

    def _load(self, provider: Provider) -> tuple[Session, ModelDescription]:
        """Load, warm up and check on one provider; raises ProviderError also if only the first run fails."""
        session = Session(self._path, provider, self._execution)
        about = describe(self._path, session)
        self._refuse_misplaced(about)
        try:
            session.warm(_new_buffer(about, self.max_batch))
            self._check(session, about)
        except GoldenMismatch:
            raise
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ProviderError(f"the first run failed: {' '.join(str(error).split())}") from error
        MODEL_LOADS.inc()
        return session, about

    def _refuse_misplaced(self, about: ModelDescription) -> None:
        folder = self._path.parent
        if (about.name, about.version) != (folder.parent.name, folder.name):
            raise ArtefactError(
                f"{self._path} says that it is {about.name}/{about.version}: move it there, or export it under this "
                "name and version"
            )

    @property
    def path(self) -> Path:
        """The file of the model."""
        return self._path

    @property
    def loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._session is not None

    def new_buffer(self) -> Buffer:
        """An input buffer for one batch: uint8 or float32 [max_batch, height, width, channels]."""
        return _new_buffer(self.description, self.max_batch)

    def run(self, buffer: Buffer, count: int) -> NDArray[np.float32]:
        """Outputs float32 [count, outputs] of the first `count` images of a buffer.

        A buffer that was filled for another version may be of the other type. Loads the network again if it was
        unloaded. Raises the errors of Session.run, and ModelFailed if the network
        cannot be loaded again.
        """
        if (buffer.dtype == np.uint8) is not self.description.resize.rounded:
            buffer = np.rint(buffer).astype(np.uint8 if self.description.resize.rounded else np.float32)
        return (self._session or self._load_again()).run(buffer, count)

    def check(self) -> None:
        """Run the golden input again, or a black image if the file has none; raises ModelFailed."""
        session = self._session or self._load_again()
        try:
            if not self._check(session, self.description):
                session.run(self.new_buffer(), 1)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelFailed(f"the model fails on an input that it computed correctly before: {error}") from error

    def unload(self) -> None:
        """Free the network's memory until the next run."""
        self._session = None
        give_back_freed_memory()
        logger.info("unloaded model=%s version=%s", self.description.name, self.description.version)

    def _load_again(self) -> Session:
        about = self.description
        try:
            if digest(self._path) != about.digest:
                raise ModelFailed(f"{self._path} is not the file any more that was announced as {about.version}")
            session, found = self._load(self.provider)
            if found != about:
                raise ModelFailed(f"{self._path} changed while it was loaded again")
        except (OSError, ArtefactError, ProviderError, GoldenMismatch) as error:
            raise ModelFailed(f"the model cannot be loaded again: {error}") from error
        self._session = session
        logger.info("loaded again model=%s version=%s", about.name, about.version)
        return session

    def _check(self, session: Session, about: ModelDescription) -> bool:
        """Run the golden input; False if the file has none. Raises GoldenMismatch."""
        if not (expected := golden(session.metadata, about)):
            return False
        # In each size, since each has kernels and a CUDA graph of its own; in the last row, which padding follows.
        buffer = _new_buffer(about, self.max_batch)
        differences = []
        for size in session.sizes:
            buffer[size - 1] = expected.image
            differences.append(np.abs(session.run(buffer, size)[size - 1] - expected.output).max())
        difference = float(np.max(differences))
        allowed = tolerance(session.provider, self._execution, about.precision, expected, kind=about.output_kind)
        if not difference <= allowed:
            raise GoldenMismatch(
                f"{about.name}/{about.version} on {session.provider.ort_name} differs by {difference:.2g} from its "
                f"golden output, more than {allowed:g}: the file is damaged, or this provider computes it wrong"
            )
        return True

    def _refuse_unless_probabilities(self, session: Session) -> None:
        """A file without Sluice's metadata must give probabilities for an image of noise; raises ArtefactError."""
        buffer = self.new_buffer()
        buffer[0] = np.random.default_rng(0).integers(0, 256, buffer[0].shape, np.uint8)
        if problem := invalid_rows(session.run(buffer, 1), self.description.output_kind).get(0):
            raise ArtefactError(f"{self._path}: {problem}. Wrap it with: python -m export --onnx FILE")

    def _measure_one_image(self) -> float:
        buffer = self.new_buffer()
        self.run(buffer, 1)
        started = time.perf_counter()
        self.run(buffer, 1)
        return time.perf_counter() - started


def inference_thread() -> ThreadPoolExecutor:
    """One thread that loads, checks and runs one model: CUDA graphs belong to the thread that captured them."""
    return ThreadPoolExecutor(1, thread_name_prefix="inference")


class ServedModel:
    """A model with its thread. It changes only between two batches: each batch runs wholly on one version."""

    def __init__(self, model: Model, executor: ThreadPoolExecutor) -> None:
        self.model = model
        self._executor = executor
        self._in_use = asyncio.Lock()

    @property
    def description(self) -> ModelDescription:
        return self.model.description

    def one_batch(self) -> asyncio.Lock:
        """The lock under which a batch runs: the model stays the same."""
        return self._in_use

    async def call(self, work: Callable[[], T]) -> T:
        """The result of `work` in the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def change(self, model: Model, executor: ThreadPoolExecutor) -> None:
        """Serve another model from the next batch on, and free the memory of the one before."""
        async with self._in_use:
            before, thread = self.model, self._executor
            self.model, self._executor = model, executor
        await asyncio.get_running_loop().run_in_executor(thread, before.unload)
        thread.shutdown(wait=False)

    def close(self) -> None:
        """No further batch will run."""
        self._executor.shutdown()


def tolerance(provider: Provider, execution: Execution, precision: str, expected: Golden, *, kind: str) -> float:
    """How far the output for the golden input may be from the golden output, in its own unit."""
    computed = precision
    if provider.computes_fp16 and precision == "fp32":
        computed = "fp16"
    elif provider.computes_tf32 and precision == "fp32" and not execution.strict_fp32:
        computed = "tf32"
    scale = max(1.0, float(np.abs(expected.output).max())) if kind == "values" else 1.0
    return _TOLERANCE[computed] * scale


def _new_buffer(about: ModelDescription, max_batch: int) -> Buffer:
    shape = (max_batch, about.height, about.width, about.channels)
    return np.zeros(shape, np.uint8 if about.resize.rounded else np.float32)
