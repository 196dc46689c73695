"""Runs batches through the model and turns its outputs into outcomes.

The model runs in one thread beside the event loop; nothing here blocks the loop.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError

from consumers import metrics
from consumers.batch import Batch, entry_of, invalid_rows, request_of, top
from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.in_flight import InFlight
from consumers.onnx.model import ModelFailed
from results.completion import Completed
from results.outcome import Done, Failed
from results.store import Store
from stream.group import Delivery

logger = logging.getLogger(__name__)

#: Cancellations are not looked up for a batch accepted more recently than this, in milliseconds: hardly any client
#: hangs up so soon, and the look-up would be a good part of such a request's time.
_CANCELLABLE_AFTER_MS = 50

T = TypeVar("T")


class InferenceRunner:
    """Runs the batches of one partition and hands the outcomes to its completer."""

    def __init__(self, context: WorkerContext, store: Store, in_flight: InFlight, completer: Completer) -> None:
        self._context = context
        self._served = context.served
        self._store = store
        self._in_flight = in_flight
        self._completer = completer

    async def run(self, batch: Batch) -> None:
        """Run those images of this batch that are still wanted."""
        if self._context.state.failure:
            self._leave_to_others(batch)
            return
        await self._drop_expired_and_cancelled(batch)
        if len(batch):
            self._in_flight.running = {delivery.entry_id for delivery in batch.deliveries}
            await self._run(batch)
            self._in_flight.running = set()

    async def _drop_expired_and_cancelled(self, batch: Batch) -> None:
        """Remove images that expired or were cancelled while they waited; neither is worth an inference."""
        now_ms = self._in_flight.clock.now_ms()
        waited_ms = now_ms - min(delivery.accepted_ms for delivery in batch.deliveries)
        cancelled = await self._cancelled(batch) if waited_ms > _CANCELLABLE_AFTER_MS else set()
        rows = []
        for row, delivery in enumerate(batch.deliveries):
            entry = entry_of(delivery)
            if entry.id in cancelled:
                self._completer.add_cancelled(delivery.entry_id, entry)
            elif 0 < entry.due_ms < now_ms:
                self._completer.add_expired(delivery.entry_id, entry)
            else:
                rows.append(row)
        batch.keep(rows)

    async def _cancelled(self, batch: Batch) -> set[str]:
        ids = [entry_of(delivery).id for delivery in batch.deliveries]
        try:
            states = await self._store.states(ids)
        except (RedisError, ValueError) as error:
            logger.warning("cannot look up cancellations, running all images: %s", error)
            return set()
        return {request_id for request_id, state in zip(ids, states, strict=True) if state == "cancelled"}

    async def _run(self, batch: Batch) -> None:
        began_ms = self._in_flight.clock.now_ms()
        metrics.BATCH_WAIT_SECONDS.observe(time.monotonic() - batch.filled_s)
        try:
            outputs, seconds = await self._timed(lambda: self._served.model.run(batch.buffer, len(batch)))
        except ModelFailed as error:
            self._stop_consumer(batch, error)
        except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base; none may end the consumer)
            await self._find_guilty(batch, error, began_ms=began_ms)
        else:
            await self._finish(batch, outputs, began_ms=began_ms, seconds=seconds)

    async def _finish(self, batch: Batch, outputs: NDArray[np.float32], *, began_ms: float, seconds: float) -> None:
        """Complete the images of a batch that ran; those whose outputs make no sense fail."""
        if problems := invalid_rows(outputs, self._served.description.output_kind):
            if not await self._model_still_works(batch):
                return
            for row, problem in problems.items():
                self._fail_inference(batch.deliveries[row], problem, began_ms=began_ms)
            valid = [row for row in range(len(batch)) if row not in problems]
            batch.keep(valid)
            outputs = outputs[valid]
        if not len(batch):
            return
        self._count(batch, seconds)
        if max_labels := self._context.settings.prediction_labels:
            metrics.PREDICTIONS.observe(self._served.description, outputs, max_labels=max_labels)
        self._completer.add(*self._done(batch, outputs, began_ms=began_ms, run_ms=seconds * 1000))
        if self._context.tracer is not None:
            self._context.tracer.record(batch.deliveries, self._served.model, began_ms=began_ms, run_ms=seconds * 1000)

    def _count(self, batch: Batch, seconds: float) -> None:
        self._context.sizer.add_run(len(batch), seconds)
        counts = self._in_flight.counts
        counts.batches += 1
        counts.images += len(batch)
        counts.bulk_images += sum(delivery.priority == "bulk" for delivery in batch.deliveries)
        counts.last_batch = len(batch)
        metrics.BATCH_IMAGES.observe(len(batch))
        metrics.INFERENCE_SECONDS.observe(seconds)

    async def _find_guilty(self, batch: Batch, error: Exception, *, began_ms: float) -> None:
        """A batch failed: unless the model is at fault, run each image alone, so that only those fail that must."""
        if not await self._model_still_works(batch):
            return
        if len(batch) == 1:
            self._fail_inference(batch.deliveries[0], str(error), began_ms=began_ms)
            return
        logger.warning("inference of %d images failed, running them one by one: %s", len(batch), error)
        for row, delivery in enumerate(batch.deliveries):
            alone = Batch([delivery], batch.buffer[row : row + 1])
            if self._context.state.failure:
                self._leave_to_others(alone)
            else:
                await self._run(alone)

    async def _model_still_works(self, batch: Batch) -> bool:
        """Whether the model computes its golden input as before. If not, this consumer is at fault, and stops."""
        try:
            await self._timed(self._served.model.check)
        except ModelFailed as error:
            # One of these images may have broken the model. Their delivery counts, as if the consumer had died.
            self._in_flight.suspects.update(delivery.entry_id for delivery in batch.deliveries)
            self._stop_consumer(batch, error)
            return False
        return True

    def _stop_consumer(self, batch: Batch, error: ModelFailed) -> None:
        self._context.health.failed()
        self._context.state.fail(str(error))
        self._leave_to_others(batch)

    def _leave_to_others(self, batch: Batch) -> None:
        """These entries stay in flight until the worker hands them back."""
        self._completer.end_waits(delivery.entry_id for delivery in batch.deliveries)

    def _fail_inference(self, delivery: Delivery, error: str, *, began_ms: float) -> None:
        logger.error("inference failed entry=%s request=%s: %s", delivery.entry_id, request_of(delivery), error)
        self._in_flight.counts.failed += 1
        detail = f"The model failed on this image: {error}"
        entry, reason = entry_of(delivery), f"inference_failed: {detail}"
        outcome = Failed(entry.id, "inference_failed", detail)
        self._completer.add(
            Completed(delivery.entry_id, outcome, entry.reply, reason, delivery.deliveries, entry.webhook)
        )
        if self._context.tracer is not None:
            run_ms = self._in_flight.clock.now_ms() - began_ms
            failure = RuntimeError(error)
            self._context.tracer.record([delivery], self._served.model, began_ms=began_ms, run_ms=run_ms, error=failure)

    async def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run in the inference thread, and note when it began, so that a hung inference is noticed."""

        def timed() -> tuple[T, float]:
            started = time.perf_counter()
            return work(), time.perf_counter() - started

        state = self._context.state
        state.run_began_s = time.monotonic()
        try:
            found = await self._served.call(timed)
        except Exception:
            state.run_began_s = None
            raise
        # Cancelled, it goes on in its thread.
        state.run_began_s = None
        return found

    def _done(self, batch: Batch, outputs: NDArray[np.float32], *, began_ms: float, run_ms: float) -> list[Completed]:
        finished = []
        about = self._served.description
        entries = [entry_of(delivery) for delivery in batch.deliveries]
        # Values are all returned, in the order of the network: they have no rank.
        ranked = top(outputs, [0 if about.output_kind == "values" else entry.top for entry in entries])
        for delivery, entry, (indices, values) in zip(batch.deliveries, entries, ranked, strict=True):
            outcome = Done(
                id=entry.id,
                version=about.version,
                provider=self._served.model.provider.ort_name,
                indices=indices,
                probabilities=values,
                batch=len(batch),
                queue_ms=max(0.0, began_ms - delivery.accepted_ms),
                run_ms=run_ms,
                digest=about.digest,
                output_kind=about.output_kind,
            )
            self._in_flight.counts.queue[delivery.priority].add(outcome.queue_ms / 1000)
            finished.append(Completed(delivery.entry_id, outcome, entry.reply, webhook=entry.webhook))
        return finished
