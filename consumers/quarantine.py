"""Keeps entries out of the batches of others: what may do harm runs alone, and what cannot be run is refused.

An image may make each consumer die that runs it. So a claimed entry runs alone, and one at a time. After
`max_deliveries` it becomes a dead letter.
"""

import logging
from collections.abc import Callable, Iterable

from consumers.batch import Buffer, request_of, shape_of
from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.in_flight import InFlight
from results.completion import Completed
from results.outcome import Failed
from stream.entry import DamagedEntry, Entry, MalformedEntry
from stream.group import Delivery

logger = logging.getLogger(__name__)


class Quarantine:
    """The entries of one partition that join no batch. `queue` fills a buffer with deliveries that are to be run."""

    def __init__(
        self,
        context: WorkerContext,
        in_flight: InFlight,
        completer: Completer,
        queue: Callable[[Buffer, list[Delivery]], None],
    ) -> None:
        self._served = context.served
        self._buffers = context.buffers
        self._max_deliveries = context.settings.max_deliveries
        self._in_flight = in_flight
        self._completer = completer
        self._queue = queue

    async def take_over(self, delivery: Delivery) -> None:
        """Run a claimed entry alone, and wait until it is completed; or give it up."""
        if delivery.entry_id in self._in_flight.held:
            return  # It was ours all along: a pause of this whole process let its lease expire.
        self._in_flight.counts.reclaimed += 1
        logger.info(
            "claimed entry=%s request=%s delivery=%d holders=%s",
            delivery.entry_id, request_of(delivery), delivery.deliveries, ",".join(delivery.holders),
        )  # fmt: skip
        if delivery.deliveries > self._max_deliveries and not _is_cancelled(delivery):
            self._give_up(delivery)
        else:
            await self.run_alone(delivery)

    async def run_alone(self, delivery: Delivery) -> None:
        """Queue an entry as a batch of its own, and wait until it is completed."""
        # Held before there is a buffer: with many partitions that may take longer than a lease, which is then renewed.
        if held := self._in_flight.add([delivery]):
            buffer = await self._buffers.free.get()
            self._queue(buffer, held)
        await self._completer.completed(delivery.entry_id)

    def _give_up(self, delivery: Delivery) -> None:
        """Make an entry a dead letter that was delivered too often."""
        self._in_flight.add([delivery])
        self._in_flight.counts.dead_letters += 1
        entry, tried = delivery.entry, delivery.deliveries - 1
        held = "1 delivery: the consumer" if tried == 1 else f"{tried} deliveries: each consumer"
        reason = f"given up after {held} that held it died or hung"
        logger.error(
            "dead letter entry=%s request=%s holders=%s: %s",
            delivery.entry_id, request_of(delivery), ",".join(delivery.holders), reason,
        )  # fmt: skip
        if isinstance(entry, MalformedEntry):
            self._refuse_malformed(delivery, entry)
            return
        outcome = Failed(entry.id, "dead_letter", f"The image was {reason}. It is kept as a dead letter.")
        self._completer.add(Completed(delivery.entry_id, outcome, entry.reply, reason, tried, entry.webhook))

    def refuse(self, deliveries: Iterable[Delivery]) -> None:
        """Complete entries without an inference that are malformed, or prepared for another version."""
        for delivery in deliveries:
            if isinstance(delivery.entry, MalformedEntry):
                self._refuse_malformed(delivery, delivery.entry)
            else:
                self._refuse_preparation(delivery, delivery.entry)

    def _refuse_malformed(self, delivery: Delivery, error: MalformedEntry) -> None:
        if isinstance(error, DamagedEntry):
            self._refuse_damaged(delivery, error)
            return
        logger.error("malformed entry=%s: %s", delivery.entry_id, error)
        outcome = Failed(id=f"malformed-{delivery.entry_id}", reason="malformed", detail=str(error))
        self._completer.add(Completed(delivery.entry_id, outcome, "", f"malformed: {error}"))

    def _refuse_damaged(self, delivery: Delivery, error: DamagedEntry) -> None:
        if error.is_cancelled:
            self._completer.add_cancelled(delivery.entry_id, error)
            return
        if not error.has_pixels and 0 < error.due_ms < self._in_flight.clock.now_ms():
            # Pixels expire with their request, long after its deadline.
            self._completer.add_expired(delivery.entry_id, error)
            return
        logger.error("damaged entry=%s request=%s: %s", delivery.entry_id, error.id, error)
        detail = "The image was damaged in Redis: its checksum does not fit. Send it again."
        outcome = Failed(error.id or f"damaged-{delivery.entry_id}", "damaged", detail)
        self._completer.add(
            Completed(delivery.entry_id, outcome, error.reply, f"damaged: {error}", webhook=error.webhook)
        )

    def _refuse_preparation(self, delivery: Delivery, entry: Entry) -> None:
        """An ingest that waits prepares the image again. If none does, the image is kept as a dead letter."""
        about = self._served.description
        detail = (
            f"the image was prepared as {_product(shape_of(entry))} for another version, and version {about.version} "
            f"takes {_product(about.shape)}{', resized differently' if shape_of(entry) == about.shape else ''}"
        )
        logger.info("refused entry=%s request=%s: %s", delivery.entry_id, entry.id, detail)
        outcome = Failed(entry.id, "other_preparation", f"{detail}; send it again")
        kept = "" if entry.reply else f"other_preparation: {detail}"
        self._completer.add(
            Completed(delivery.entry_id, outcome, entry.reply, kept, delivery.deliveries, entry.webhook)
        )


def _is_cancelled(delivery: Delivery) -> bool:
    """Whether the pixels are gone because the request was cancelled."""
    return isinstance(delivery.entry, DamagedEntry) and delivery.entry.is_cancelled


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
