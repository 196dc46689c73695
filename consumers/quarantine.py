"""Quarantine: a claimed entry runs alone, and after too many deliveries it becomes a dead letter.

An image may make each consumer die that runs it. So `stream/scripts/claim.lua` hands an entry to another consumer when
its lease has ended, and counts the deliveries. The entry runs as a batch of its own, and no other is claimed meanwhile.
After `max_deliveries`, `results/scripts/complete.lua` moves it to the dead letters. A consumer that stops because its
model hung ends the leases of that batch itself (`hand_back` in consumers/partition.py).
"""

import logging
from collections.abc import Callable

from consumers.batch import Buffer, request_of
from consumers.completer import Completer
from consumers.context import WorkerContext
from consumers.in_flight import InFlight
from results.completion import Completed
from results.outcome import Failed
from stream.entry import DamagedEntry, MalformedEntry
from stream.group import Delivery, Group

logger = logging.getLogger(__name__)


class Quarantine:
    """The entries of one partition that join no batch. `queue` fills a buffer with deliveries that are to be run."""

    def __init__(
        self,
        context: WorkerContext,
        group: Group,
        in_flight: InFlight,
        completer: Completer,
        queue: Callable[[Buffer, list[Delivery]], None],
    ) -> None:
        self._buffers = context.buffers
        self._max_deliveries = context.settings.max_deliveries
        self._group = group
        self._in_flight = in_flight
        self._completer = completer
        self._queue = queue

    async def claim_next(self) -> bool:
        """Claim an entry and run it alone, or give it up; False if there is none."""
        if (delivery := await self._group.claim()) is None:
            return False
        if delivery.entry_id in self._in_flight.held:
            return True  # It was ours all along: a pause of this whole process let its lease expire.
        self._in_flight.counts.reclaimed += 1
        logger.info(
            "claimed entry=%s request=%s delivery=%d holders=%s",
            delivery.entry_id, request_of(delivery), delivery.deliveries, ",".join(delivery.holders),
        )  # fmt: skip
        if delivery.deliveries > self._max_deliveries and not _is_cancelled(delivery):
            self._give_up(delivery)
        else:
            await self.run_alone(delivery)
        return True

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
            self._completer.refuse_malformed(delivery, entry)
            return
        outcome = Failed(entry.id, "dead_letter", f"The image was {reason}. It became a dead letter.")
        self._completer.add(Completed(delivery.entry_id, outcome, entry.reply, reason, tried, entry.webhook))


def _is_cancelled(delivery: Delivery) -> bool:
    """Whether the pixels are gone because the request was cancelled."""
    return isinstance(delivery.entry, DamagedEntry) and delivery.entry.is_cancelled
