"""Completes finished entries in Redis, in order and a batch at a time, and keeps them while Redis is unavailable.

It also says how an entry ends that is not run: cancelled, expired, malformed, damaged, or prepared for another version.
"""

import asyncio
import logging
from collections.abc import Iterable

from redis.exceptions import RedisError

from consumers.batch import shape_of
from consumers.in_flight import InFlight
from results.completion import Completed, Completion
from results.outcome import Failed, Reason
from stream.connection.clients import Backoff
from stream.entry import DamagedEntry, Entry, MalformedEntry
from stream.group import Delivery
from stream.model import ModelDescription

logger = logging.getLogger(__name__)

#: Most outcomes in one step: a few batches. A Lua script blocks the server while it runs.
_MOST = 128


class Completer:
    """Completes what is added, a batch at a time, until `close`."""

    def __init__(self, completion: Completion, in_flight: InFlight) -> None:
        self._completion = completion
        self._in_flight = in_flight
        self._finished: list[Completed] = []
        self._added = asyncio.Event()
        self._closed = False
        self._waited_for: dict[str, asyncio.Event] = {}

    def add(self, *finished: Completed) -> None:
        self._finished += finished
        self._added.set()

    def add_expired(self, entry_id: str, image: Entry | DamagedEntry) -> None:
        """The deadline passed before the image was classified."""
        self._in_flight.counts.expired += 1
        self._add_unclassified(entry_id, image, "expired", "The deadline passed")

    def add_cancelled(self, entry_id: str, image: Entry | DamagedEntry) -> None:
        """The request was cancelled before the image was classified."""
        self._in_flight.counts.cancelled += 1
        self._add_unclassified(entry_id, image, "cancelled", "The request was cancelled")

    def _add_unclassified(self, entry_id: str, image: Entry | DamagedEntry, reason: Reason, what: str) -> None:
        outcome = Failed(image.id or f"{reason}-{entry_id}", reason, f"{what} before the image was classified.")
        self.add(Completed(entry_id, outcome, image.reply, webhook=image.webhook))

    def refuse(self, delivery: Delivery, about: ModelDescription) -> None:
        """The entry is malformed, or its image was prepared for another version than this one."""
        if isinstance(delivery.entry, MalformedEntry):
            self.refuse_malformed(delivery, delivery.entry)
        else:
            self._refuse_preparation(delivery, delivery.entry, about)

    def refuse_malformed(self, delivery: Delivery, error: MalformedEntry) -> None:
        """The entry cannot be read. What nobody cancelled, and did not expire, is kept as a dead letter."""
        if isinstance(error, DamagedEntry):
            self._refuse_damaged(delivery, error)
            return
        logger.error("malformed entry=%s: %s", delivery.entry_id, error)
        outcome = Failed(id=f"malformed-{delivery.entry_id}", reason="malformed", detail=str(error))
        self.add(Completed(delivery.entry_id, outcome, "", f"malformed: {error}"))

    def _refuse_damaged(self, delivery: Delivery, error: DamagedEntry) -> None:
        if error.is_cancelled:
            self.add_cancelled(delivery.entry_id, error)
            return
        if not error.has_pixels and 0 < error.due_ms < self._in_flight.clock.now_ms():
            # Pixels expire with their request, long after its deadline.
            self.add_expired(delivery.entry_id, error)
            return
        detail = "The image was damaged in Redis: its checksum does not fit. Send it again."
        outcome = Failed(error.id or f"damaged-{delivery.entry_id}", "damaged", detail)
        self.add(Completed(delivery.entry_id, outcome, error.reply, f"damaged: {error}", webhook=error.webhook))

    def _refuse_preparation(self, delivery: Delivery, entry: Entry, about: ModelDescription) -> None:
        """An ingest that waits prepares the image again. If none does, the image is kept as a dead letter."""
        detail = (
            f"the image was prepared as {_product(shape_of(entry))} for another version, and version {about.version} "
            f"takes {_product(about.shape)}{', resized differently' if shape_of(entry) == about.shape else ''}"
        )
        logger.info("refused entry=%s request=%s: %s", delivery.entry_id, entry.id, detail)
        outcome = Failed(entry.id, "other_preparation", f"{detail}; send it again")
        kept = "" if entry.reply else f"other_preparation: {detail}"
        self.add(Completed(delivery.entry_id, outcome, entry.reply, kept, delivery.deliveries, entry.webhook))

    def close(self) -> None:
        """Nothing more will be added: `run` ends when all is completed."""
        self._closed = True
        self._added.set()

    async def completed(self, entry_id: str) -> None:
        """Wait until this entry is completed; returns at once if it is not in flight."""
        if entry_id in self._in_flight.held:
            await self._waited_for.setdefault(entry_id, asyncio.Event()).wait()

    def end_waits(self, entry_ids: Iterable[str]) -> None:
        """End the waits for these entries."""
        for entry_id in entry_ids:
            if event := self._waited_for.pop(entry_id, None):
                event.set()

    async def run(self) -> None:
        while self._finished or not self._closed:
            await self._added.wait()
            self._added.clear()
            while self._finished:
                batch, self._finished = self._finished[:_MOST], self._finished[_MOST:]
                await self._complete(batch)

    async def _complete(self, finished: list[Completed]) -> None:
        """Complete until Redis has confirmed it: computed outcomes are kept for as long as Redis is unavailable."""
        backoff: Backoff | None = None
        entry_ids = [completed.entry_id for completed in finished]
        self._in_flight.completing.update(entry_ids)
        while True:
            try:
                was_ours = await self._completion.complete(finished)
                break
            except RedisError as error:
                backoff = backoff or Backoff()
                logger.log(
                    backoff.next_log_level(error), "cannot complete %d entries, keeping them: %s", len(finished), error
                )
                await backoff.pause()
        for completed, ours in zip(finished, was_ours, strict=True):
            if ours:
                _log_damage(completed)
        self._in_flight.counts.superseded += was_ours.count(False)
        self._in_flight.remove(entry_ids)
        self.end_waits(entry_ids)


def _log_damage(completed: Completed) -> None:
    """Say that an entry was damaged: not before it is known that no other consumer has completed it.

    Its pixels are gone then, too.
    """
    if isinstance(completed.outcome, Failed) and completed.outcome.reason == "damaged":
        why = completed.dead_letter_reason.removeprefix("damaged: ")
        logger.error("damaged entry=%s request=%s: %s", completed.entry_id, completed.outcome.id, why)


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
