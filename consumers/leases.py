"""Renews the leases of entries in flight, sends heartbeats, and ends the process when an inference hangs.

It runs beside the inference, so a batch that takes minutes does not delay a renewal. A lost lease is only logged here:
results/scripts/complete.lua accepts one outcome per entry, whichever consumer holds it. quarantine.py skips an entry
that this consumer claims back from itself.
"""

import asyncio
import faulthandler
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from consumers.context import WorkerContext
from consumers.in_flight import InFlight
from stream.group import Group
from stream.model import ModelDescription
from stream.presence import LEAVING, RECOVERY_S, ConsumerReport, Presence

logger = logging.getLogger(__name__)

#: Seconds between two reports of a consumer that has classified images meanwhile. The status shows its images beside
#: the counters of the partition, which change with each image.
_REPORT_S: Final = 0.5

#: Seconds until a heartbeat that failed is sent again. After an outage of Redis the last one may have expired, and
#: ingest waits for the next; see `RECOVERY_S`.
_RETRY_S: Final = RECOVERY_S / 2


class VersionConflict(Exception):
    """Two versions of a model cannot be served side by side if their kinds of output differ."""


def refuse_conflict(mine: ModelDescription, other: ModelDescription) -> None:
    """Raise VersionConflict if a version cannot be served beside, or right after, another one."""
    if other.output_kind != mine.output_kind:
        raise VersionConflict(
            f"{mine.name}/{mine.version} gives {mine.output_kind}, but version {other.version}, in service now, gives "
            f"{other.output_kind}: stop that first, or export under another name"
        )


def may_read_any(mine: str, others: Iterable[ConsumerReport]) -> bool:
    """Whether a consumer with the preparation `mine` may begin to read the streams for any version.

    Not while another reads them whose images are prepared differently: all that waits there is for that one.
    """
    return {one.preparation for one in others if one.reads_any} <= {mine, ""}


def is_last_to_run(mine: str, others: Iterable[ConsumerReport]) -> bool:
    """Whether those of these consumers that stay all want images prepared differently, and there is one."""
    theirs = {one.preparation for one in others if not one.is_leaving}
    return bool(theirs) and not theirs & {mine, ""}


class LeaseKeeper:
    """Keeps this consumer's leases, and its heartbeat, in one partition."""

    def __init__(
        self,
        context: WorkerContext,
        group: Group,
        presence: Presence,
        in_flight: InFlight,
        *,
        exit_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._context = context
        self._group = group
        self._presence = presence
        self._in_flight = in_flight
        self._exit_process = exit_process
        self._lease_s = context.settings.lease_s
        #: Interactive images up to the last heartbeat, and when that was.
        self._interactive = (0, time.monotonic())
        self._bulk_part = 1.0
        self._reported_images = 0
        self._reads_any = False

    async def join(self) -> None:
        """Announce the model, make the group and send a heartbeat: from then on ingest sends entries.

        Raises VersionConflict while a version with another kind of output is being served.
        """
        await self._refuse_conflict()
        await self._group.create()
        await self._presence.announce(self._context.served.description)
        await self.heartbeat()

    async def _refuse_conflict(self) -> None:
        mine = self._context.served.description
        versions = await self._presence.versions()
        serving = {consumer.version for consumer in await self._presence.consumers() if consumer.alive}
        for other in (versions[version] for version in serving & versions.keys()):
            refuse_conflict(mine, other)

    async def run(self) -> None:
        """Renew and send a heartbeat four times a lease, sooner after a failure, until cancelled."""
        failing = False
        while True:
            self._context.health.ticked()
            await self._report_for(min(_RETRY_S, self._lease_s / 4) if failing else self._lease_s / 4)
            self._abort_hung_inference()
            try:
                await self._renew()
                await self.heartbeat()
                await self._group.remove_dead_consumers()
                await self._recover_orphans()
                if failing:
                    logger.info("Redis answers again: leases are renewed")
                failing = False
            except RedisError as error:
                level = logging.DEBUG if failing else logging.WARNING
                logger.log(level, "cannot renew leases or send the heartbeat: %s", error)
                failing = True

    async def _recover_orphans(self) -> None:
        if count := await self._group.recover_orphans():
            logger.warning("recovered %d entries that Redis held for no consumer; its data may be damaged", count)

    async def _report_for(self, seconds: float) -> None:
        """Report after each half second in which images were classified. The next heartbeat repeats what fails."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            await asyncio.sleep(min(_REPORT_S, left_s))
            if self._in_flight.counts.images != self._reported_images:
                with suppress(RedisError):
                    await self._presence.report(self._report())

    async def _renew(self) -> None:
        if held := tuple(self._in_flight.held):
            lost = await self._group.renew(held)
            # An entry completed between the snapshot and the renewal is not lost. Neither is one whose completion Redis
            # has taken while the reply is still on its way, on another connection.
            if still := self._in_flight.held.intersection(lost) - self._in_flight.completing:
                logger.warning("lost the lease of %d entries; their results here will change nothing", len(still))

    async def heartbeat(self) -> None:
        """Report what this consumer does, and read the streams for the version that it serves.

        Raises redis-py's errors.
        """
        self._bulk_part = self._bulk_part_since()
        self._reads_any = self._reads_any or may_read_any(self._preparation, await self._others())
        report = self._report()
        heartbeat = await self._presence.heartbeat(report, lease_s=self._lease_s)
        self._context.health.heartbeat_sent()
        self._in_flight.clock.set(heartbeat.now_ms)
        if not heartbeat.announced:
            await self._presence.announce(self._context.served.description)
        adopted = await self._adopted(heartbeat.waiting_versions) if heartbeat.waiting_versions else []
        await self._group.follow(report.version, *adopted, any_version=self._reads_any)

    async def is_last_to_run(self) -> bool:
        """Whether no other living consumer can run what was prepared for this one, while others wait for images that
        are prepared differently. Raises redis-py's errors.
        """
        return is_last_to_run(self._preparation, await self._others())

    async def _others(self) -> list[ConsumerReport]:
        return [one for one in await self._presence.consumers() if one.alive and one.name != self._group.consumer]

    @property
    def _preparation(self) -> str:
        return self._context.served.description.preparation

    async def _adopted(self, waiting: frozenset[str]) -> list[str]:
        """Those of these versions without a consumer, oldest first, whose streams this one has to read.

        Others that run such images go first. Are there none, anybody may refuse them, so that their clients hear of it.
        """
        others = await self._others()
        without = waiting.difference(one.version for one in others if not one.is_older)
        if not without:
            return []
        known = await self._presence.versions()
        theirs = {one.preparation for one in others} - {self._preparation}
        return sorted((one for one in without if one not in known or known[one].preparation not in theirs), key=int)

    def _report(self) -> ConsumerReport:
        counts, model = self._in_flight.counts, self._context.served.model
        images_per_s = self._context.sizer.images_per_s / self._context.state.partitions
        self._reported_images = counts.images
        return ConsumerReport(
            name=self._group.consumer,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=model.description.version,
            provider=model.provider.ort_name,
            state=self._state(),
            # The sum over all partitions is what one consumer can do.
            images_per_s=round(images_per_s, 2),
            bulk_images_per_s=round(images_per_s * self._bulk_part, 2),
            images=counts.images,
            last_batch=counts.last_batch,
            held=len(self._in_flight.held),
            reclaimed=counts.reclaimed,
            digest=model.description.digest,
            refused=self._context.state.refused_version,
            passed_over=self._context.state.passed_over,
            load_requests=self._context.state.load_requests,
            preparation=model.description.preparation,
            reads_any=self._reads_any,
            follows=self._context.settings.watch and not self._context.settings.version,
        )

    def _bulk_part_since(self) -> float:
        """The part of its time that the interactive images since the last heartbeat have left for others."""
        counts, sizer = self._in_flight.counts, self._context.sizer
        interactive, now_s = counts.images - counts.bulk_images, time.monotonic()
        (before, then_s), self._interactive = self._interactive, (interactive, now_s)
        if not sizer.images_per_s or now_s == then_s:
            return 1.0
        busy = (interactive - before) / sizer.images_per_s / (now_s - then_s)
        return min(1.0, max(self._context.settings.bulk_share, 1 - busy))

    def _state(self) -> str:
        if self._context.state.stopping.is_set():
            return LEAVING
        if self._context.state.run_began_s is not None:
            return "running"
        return "idle" if self._context.served.model.loaded else "unloaded"

    def _abort_hung_inference(self) -> None:
        # A thread that hangs inside the provider cannot be stopped; the process can. Its leases expire by themselves.
        # 75 (sysexits.h: temporary failure) makes a supervisor start another.
        timeout_s = self._context.settings.inference_timeout_s
        if self._context.state.run_lasts_s() > timeout_s:
            logger.critical(
                "an inference has run for more than %g s: this consumer exits with status %d so that its supervisor "
                "restarts it",
                timeout_s, os.EX_TEMPFAIL,
            )  # fmt: skip
            faulthandler.dump_traceback()  # To the standard error: where each thread is.
            self._exit_process(os.EX_TEMPFAIL)
