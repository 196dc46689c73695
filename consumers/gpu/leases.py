"""Seats: the GPUs of a machine are shared out among its consumers by leases in Redis. Knows no CUDA and no model.

Each GPU has as many seats as consumers may compute on it. A consumer takes one before it loads its model, keeps it
until its end, and leaves it; the seat of one that was killed is free a lease later. In a Cluster the seats may be away
while partitions are there, and the reverse: they are kept by themselves.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.connection.clients import Backoff, passes_by_itself
from stream.keys import seat as key_of
from stream.scripts import load

logger = logging.getLogger(__name__)


class Seat:
    """One place at one GPU; `gpu` is its number as CUDA counts."""

    def __init__(self, redis: Redis, key: str, *, gpu: int, consumer: str, lease_s: float) -> None:
        self.gpu = gpu
        self._key = key
        self._consumer = consumer
        self._lease_s = lease_s
        self._script = load(redis, "consumers.gpu", "lease")

    async def keep(self) -> bool:
        """Take it, or keep it for another lease; False where it is another's. Raises redis-py's errors."""
        return bool(await self._script([self._key], [self._consumer, int(self._lease_s * 1000)]))

    async def hold(self, give_up: Callable[[int], object] = os._exit) -> None:
        """Keep it four times a lease, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            if not await self._kept():
                # This process was held up for a lease, and another has loaded its model beside it. Started anew, it
                # looks for a free one; others have claimed what it held, or will.
                status = os.EX_TEMPFAIL
                logger.critical("the place at GPU %d is another's: this consumer exits with %d", self.gpu, status)
                give_up(status)

    async def _kept(self) -> bool:
        """`keep`, tried until Redis answers: while it is away nobody else can take the seat either."""
        backoff = Backoff(longest_s=min(1.0, self._lease_s / 8))
        while True:
            try:
                return await self.keep()
            except RedisError as error:
                logger.log(backoff.log_level, "cannot keep the place at GPU %d: %s", self.gpu, error)
                await backoff.pause()

    async def leave(self) -> None:
        """Free it for the next."""
        try:
            await self._script([self._key], [self._consumer, 0])
        except RedisError as error:
            logger.warning("the seat at GPU %d is free when its lease ends: %s", self.gpu, error)


class Seats:
    """All places at these GPUs, given by their UUIDs: `chosen` is one's number, or None for any."""

    def __init__(
        self,
        redis: Redis,
        gpus: Sequence[str],
        *,
        consumer: str,
        lease_s: float,
        per_gpu: int = 1,
        chosen: int | None = None,
    ) -> None:
        self._redis = redis
        self._gpus = gpus
        self._consumer = consumer
        self._lease_s = lease_s
        self._per_gpu = per_gpu
        self._numbers = range(len(gpus)) if chosen is None else (chosen,)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Seat]:
        """A seat, kept until the end of the block; waits while all are taken, and while Redis is away."""
        seat = await self._wait()
        logger.info("took a seat gpu=%d uuid=%s", seat.gpu, self._gpus[seat.gpu])
        holding = asyncio.create_task(seat.hold())
        try:
            yield seat
        finally:
            holding.cancel()
            await asyncio.wait({holding})
            await seat.leave()

    async def _wait(self) -> Seat:
        backoff = Backoff()
        told = after_outage = False
        while True:
            try:
                if after_outage:
                    # Leases may have ended meanwhile: those who compute there take their places again first.
                    await self._redis.ping()
                    after_outage = False
                    await asyncio.sleep(self._lease_s / 2)
                if seat := await self.take():
                    return seat
            except RedisError as error:
                if not passes_by_itself(error):
                    raise
                logger.log(backoff.log_level, "waiting for Redis: %s", error)
                await backoff.pause()
                after_outage = True
                continue
            backoff.reset()
            # Whoever was killed holds its seat for a lease; whoever replaces a consumer may come before it has left.
            level = logging.DEBUG if told else logging.WARNING
            logger.log(level, "waiting: all places at %d GPUs are taken, %d at each", len(self._numbers), self._per_gpu)
            told = True
            await asyncio.sleep(self._lease_s / 4)

    async def take(self) -> Seat | None:
        """The first free seat, or None. Raises redis-py's errors."""
        for seat in self._all():
            if await seat.keep():
                return seat
        return None

    def _all(self) -> Iterator[Seat]:
        """One at each GPU before a second at any."""
        for place in range(self._per_gpu):
            for gpu in self._numbers:
                key = key_of(self._gpus[gpu], place)
                yield Seat(self._redis, key, gpu=gpu, consumer=self._consumer, lease_s=self._lease_s)
