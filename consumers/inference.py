"""Runner: batches become outcomes. The model runs in one thread beside the event loop; nothing here blocks it."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError

from consumers import metrics
from consumers.batch import Batch, entry_of, request_of, top
from consumers.batch_size import Pace
from consumers.completer import Outlet
from consumers.in_flight import Holdings
from consumers.onnx.model import Model
from results.completion import Completed
from results.outcome import Done, Failed, Reason
from results.store import Store
from stream.group import Delivery

logger = logging.getLogger(__name__)

#: Nobody is asked about cancellations in a batch that was accepted so recently, in milliseconds: hardly any
#: client hangs up so soon, and the question would be a good part of the time that such a request takes.
_WORTH_ASKING_MS = 50

T = TypeVar("T")


class Ran(Protocol):
    """Hears of each batch that ran: from when on by Redis's clock, how long, and with which error."""

    def ran(
        self, deliveries: Sequence[Delivery], *, began_ms: float, run_ms: float, error: Exception | None = None
    ) -> None: ...


class Runner:
    """Runs batches of one lane in the thread that all share, and hands the outcomes to the lane's outlet."""

    def __init__(
        self,
        model: Model,
        thread: ThreadPoolExecutor,
        outlet: Outlet,
        store: Store,
        holdings: Holdings,
        pace: Pace,
        *,
        traces: Ran | None = None,
    ) -> None:
        self._model = model
        self._thread = thread
        self._outlet = outlet
        self._store = store
        self._holdings = holdings
        self._pace = pace
        self._traces = traces

    async def serve(self, batch: Batch) -> None:
        """Run what of this batch is still wanted."""
        await self._drop_unwanted(batch)
        if len(batch):
            await self._run(batch)

    async def _drop_unwanted(self, batch: Batch) -> None:
        """Take out what has expired or was cancelled while it waited; neither is worth an inference."""
        now_ms = self._holdings.clock.now_ms()
        waited_ms = now_ms - batch.deliveries[0].accepted_ms  # Redis gives the oldest first.
        cancelled = await self._cancelled(batch) if waited_ms > _WORTH_ASKING_MS else set()
        rows = []
        for row, delivery in enumerate(batch.deliveries):
            entry = entry_of(delivery)
            if entry.id in cancelled:
                self._holdings.counts.cancelled += 1
                self._fail(delivery, "cancelled", "The request was cancelled before the image was classified.")
            elif 0 < entry.due_ms < now_ms:
                self._holdings.counts.expired += 1
                self._fail(delivery, "expired", "The deadline passed before the image was classified.")
            else:
                rows.append(row)
        batch.keep(rows)

    async def _cancelled(self, batch: Batch) -> set[str]:
        ids = [entry_of(delivery).id for delivery in batch.deliveries]
        try:
            states = await self._store.states(ids)
        except (RedisError, ValueError) as error:
            logger.warning("cannot look for cancellations, running all: %s", error)
            return set()
        return {request_id for request_id, state in zip(ids, states, strict=True) if state == "cancelled"}

    async def _run(self, batch: Batch) -> None:
        began_ms = self._holdings.clock.now_ms()
        metrics.BATCH_WAIT_SECONDS.observe(time.monotonic() - batch.filled_s)
        try:
            probabilities, seconds = await self._timed(lambda: self._model.run(batch.slot, len(batch)))
        except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base; none may end the consumer)
            await self._run_one_by_one(batch, error, began_ms=began_ms)
            return
        self._pace.note(len(batch), seconds)
        counts = self._holdings.counts
        counts.batches += 1
        counts.images += len(batch)
        counts.last_batch = len(batch)
        metrics.BATCH_IMAGES.observe(len(batch))
        metrics.INFERENCE_SECONDS.observe(seconds)
        self._outlet.put(*self._done(batch, probabilities, began_ms=began_ms, run_ms=seconds * 1000))
        if self._traces is not None:
            self._traces.ran(batch.deliveries, began_ms=began_ms, run_ms=seconds * 1000)

    async def _run_one_by_one(self, batch: Batch, error: Exception, *, began_ms: float) -> None:
        """A batch failed: only the images that fail by themselves are guilty."""
        if len(batch) == 1:
            delivery = batch.deliveries[0]
            logger.error("inference failed entry=%s request=%s: %s", delivery.entry_id, request_of(delivery), error)
            self._holdings.counts.failed += 1
            self._fail(delivery, "inference_failed", f"The model failed on this image: {error}", bury=True)
            if self._traces is not None:
                run_ms = self._holdings.clock.now_ms() - began_ms
                self._traces.ran([delivery], began_ms=began_ms, run_ms=run_ms, error=error)
            return
        logger.warning("inference of %d images failed, running them one by one: %s", len(batch), error)
        for row, delivery in enumerate(batch.deliveries):
            await self._run(Batch([delivery], batch.slot[row : row + 1]))

    async def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run in the inference thread; the clock that finds hanging runs ticks meanwhile."""

        def timed() -> tuple[T, float]:
            started = time.perf_counter()
            return work(), time.perf_counter() - started

        self._holdings.activity.run_began_s = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        finally:
            self._holdings.activity.run_began_s = None

    def _done(
        self, batch: Batch, probabilities: NDArray[np.float32], *, began_ms: float, run_ms: float
    ) -> list[Completed]:
        finished = []
        waited_s = []
        entries = [entry_of(delivery) for delivery in batch.deliveries]
        ranked = top(probabilities, [entry.top for entry in entries])
        for delivery, entry, (indices, values) in zip(batch.deliveries, entries, ranked, strict=True):
            outcome = Done(
                id=entry.id,
                version=self._model.description.version,
                provider=self._model.provider,
                indices=indices,
                probabilities=values,
                batch=len(batch),
                queue_ms=max(0.0, began_ms - delivery.accepted_ms),
                run_ms=run_ms,
                digest=self._model.description.digest,
            )
            waited_s.append(outcome.queue_ms / 1000)
            finished.append(Completed(delivery.entry_id, outcome, entry.reply))
        metrics.QUEUE_SECONDS.observe(waited_s)
        return finished

    def _fail(self, delivery: Delivery, reason: Reason, detail: str, *, bury: bool = False) -> None:
        entry = entry_of(delivery)
        burial = f"{reason}: {detail}" if bury else ""
        self._outlet.put(
            Completed(delivery.entry_id, Failed(entry.id, reason, detail), entry.reply, burial, delivery.deliveries)
        )
