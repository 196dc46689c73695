"""Shares the GPUs of a machine among its consumers, by leases in Redis.

Each GPU has as many leases as consumers may compute on it (`consumers_per_gpu`). A consumer acquires one before it
loads its model, renews it until its end, and releases it. The lease of a killed consumer expires. In a Cluster the
leases may be unavailable while partitions are available, and the reverse, so they are renewed independently.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.connection.clients import AT_START, Backoff
from stream.keys import gpu_lease as key_of
from stream.scripts import load

logger = logging.getLogger(__name__)


class GpuLease:
    """The right to compute on one GPU; `gpu` is its number as CUDA counts."""

    def __init__(self, redis: Redis, key: str, *, gpu: int, consumer: str, lease_s: float) -> None:
        self.gpu = gpu
        self._key = key
        self._consumer = consumer
        self._lease_s = lease_s
        self._script = load(redis, "consumers.gpu", "lease")

    async def acquire(self) -> bool:
        """Acquire it, or renew it; False if another consumer holds it. Raises redis-py's errors."""
        return bool(await self._script([self._key], [self._consumer, int(self._lease_s * 1000)]))

    async def keep(self, exit_process: Callable[[int], object] = os._exit) -> None:
        """Renew it four times a lease, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            if not await self._renewed():
                # This process was held up for a lease, and another has loaded its model beside it. Restarted, it looks
                # for a free lease; other consumers have claimed its entries, or will.
                status = os.EX_TEMPFAIL
                logger.critical("lost the lease of GPU %d: this consumer exits with status %d", self.gpu, status)
                exit_process(status)

    async def _renewed(self) -> bool:
        """Renew until Redis answers: while it is unavailable no other consumer can acquire the lease either."""
        backoff = Backoff(longest_s=min(1.0, self._lease_s / 8))
        while True:
            try:
                return await self.acquire()
            except RedisError as error:
                logger.log(backoff.next_log_level(error), "cannot renew the lease of GPU %d: %s", self.gpu, error)
                await backoff.pause()

    async def release(self) -> None:
        """Free it for another consumer."""
        try:
            await self._script([self._key], [self._consumer, 0])
        except RedisError as error:
            logger.warning("cannot release the lease of GPU %d, it will expire: %s", self.gpu, error)


class GpuLeases:
    """All leases of these GPUs, given by their UUIDs; `chosen` is the number of one GPU, or None for any."""

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
    async def acquired(self) -> AsyncIterator[GpuLease]:
        """A lease, renewed until the end of the block; waits while all are held, and while Redis is unavailable."""
        lease = await self._wait()
        logger.info("acquired a GPU lease gpu=%d uuid=%s", lease.gpu, self._gpus[lease.gpu])
        keeping = asyncio.create_task(lease.keep())
        try:
            yield lease
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await lease.release()

    async def _wait(self) -> GpuLease:
        backoff = Backoff(quiet=AT_START)
        reported = after_outage = False
        while True:
            try:
                if after_outage:
                    # Leases may have expired meanwhile: consumers that compute there renew theirs first.
                    await self._redis.ping()
                    after_outage = False
                    await asyncio.sleep(self._lease_s / 2)
                if lease := await self.acquire():
                    return lease
            except RedisError as error:
                await backoff.wait_for_redis(error)
                after_outage = True
                continue
            backoff.reset()
            # A killed consumer's lease has to expire first; a replacement may start before the old one has ended.
            level = logging.DEBUG if reported else logging.WARNING
            logger.log(
                level,
                "waiting for a GPU lease: %d GPUs with %d consumers each are all in use",
                len(self._numbers),
                self._per_gpu,
            )
            reported = True
            await asyncio.sleep(self._lease_s / 4)

    async def acquire(self) -> GpuLease | None:
        """The first free lease, or None. Raises redis-py's errors."""
        for lease in self._all():
            if await lease.acquire():
                return lease
        return None

    def _all(self) -> Iterator[GpuLease]:
        """One lease of each GPU before the second of any."""
        for number in range(self._per_gpu):
            for gpu in self._numbers:
                key = key_of(self._gpus[gpu], number)
                yield GpuLease(self._redis, key, gpu=gpu, consumer=self._consumer, lease_s=self._lease_s)
