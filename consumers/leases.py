"""Keeper: renews leases and beats beside the running batch, and ends a consumer whose run hangs.

Knows no inference: a batch that takes minutes does not keep it from renewing.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from redis.exceptions import RedisError

from consumers.batch_size import Pace
from consumers.buffer_pool import Belt
from consumers.health import Health
from consumers.in_flight import Holdings
from consumers.inference import Runner
from consumers.onnx.model import Model
from stream.group import Group
from stream.presence import ConsumerReport, Presence

logger = logging.getLogger(__name__)


class SizeConflict(Exception):
    """Two versions of one model with different input sizes cannot be served side by side."""


class Keeper:
    """Keeps this consumer's leases and its place among the living."""

    def __init__(
        self,
        group: Group,
        presence: Presence,
        model: Model,
        holdings: Holdings,
        pace: Pace,
        belt: Belt[Runner],
        health: Health,
        *,
        lease_s: float,
        inference_timeout_s: float,
        give_up: Callable[[int], object] = os._exit,
    ) -> None:
        self._group = group
        self._presence = presence
        self._model = model
        self._holdings = holdings
        self._pace = pace
        self._belt = belt
        self._health = health
        self._lease_s = lease_s
        self._inference_timeout_s = inference_timeout_s
        self._give_up = give_up

    async def join(self) -> None:
        """Announce the model, make the group and beat once: from then on ingest sends work.

        Raises SizeConflict while another version with another input size is being served.
        """
        await self._refuse_another_size()
        await self._group.create()
        await self._presence.announce(self._model.description)
        await self._beat()

    async def _refuse_another_size(self) -> None:
        # Ingest prepares pictures for one size; entries on their way would fit only one of the two versions.
        mine = self._model.description
        versions = await self._presence.versions()
        serving = {one.version for one in await self._presence.consumers() if one.alive}
        for other in (versions[version] for version in serving & versions.keys()):
            if (other.height, other.width) != (mine.height, mine.width):
                raise SizeConflict(
                    f"{mine.name}/{mine.version} takes {mine.height} x {mine.width} pixels, but version "
                    f"{other.version}, in service now, takes {other.height} x {other.width}: stop that first, "
                    "or export under another name"
                )

    async def run(self) -> None:
        """Renew and beat four times a lease, until cancelled."""
        failing = False
        while True:
            self._health.turned()
            await asyncio.sleep(self._lease_s / 4)
            if self._holdings.activity.run_lasts_s() > self._inference_timeout_s:
                self._end_hanging()
            try:
                await self._renew()
                await self._beat()
                await self._group.tidy()
                failing = False
            except RedisError as error:
                logger.log(logging.DEBUG if failing else logging.WARNING, "cannot renew or beat: %s", error)
                failing = True

    async def _renew(self) -> None:
        if held := tuple(self._holdings.held):
            lost = await self._group.renew(held)
            # What was completed between the snapshot and the renewal is not lost; nor what Redis has taken as completed
            # and this process has not heard of yet, on another connection.
            if still := self._holdings.held.intersection(lost) - self._holdings.leaving:
                logger.warning("lost the lease of %d entries; their results here will change nothing", len(still))

    async def _beat(self) -> None:
        now_ms, announced = await self._presence.beat(self._report(), lease_s=self._lease_s)
        self._health.beaten()
        self._holdings.clock.set(now_ms)
        if not announced:
            await self._presence.announce(self._model.description)

    def _report(self) -> ConsumerReport:
        counts = self._holdings.counts
        return ConsumerReport(
            name=self._group.consumer,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._model.description.version,
            provider=self._model.provider,
            state=self._state(),
            # Those who add up what is said in each partition get what one consumer can do.
            images_per_s=round(self._pace.images_per_s / self._belt.lanes, 2),
            images=counts.images,
            last_batch=counts.last_batch,
            held=len(self._holdings.held),
            reclaimed=counts.reclaimed,
            digest=self._model.description.digest,
        )

    def _state(self) -> str:
        if self._holdings.activity.run_began_s is not None:
            return "running"
        return "idle" if self._model.loaded else "unloaded"

    def _end_hanging(self) -> None:
        # A thread that hangs inside the provider can't be stopped; the process can. Its leases end by themselves.
        # 75 (sysexits.h: temporary failure) tells whoever watches it to start another.
        logger.critical(
            "an inference runs for more than %g s: this consumer exits with %d, to be started anew",
            self._inference_timeout_s, os.EX_TEMPFAIL,
        )  # fmt: skip
        self._give_up(os.EX_TEMPFAIL)
