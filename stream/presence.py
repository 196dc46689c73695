"""Who serves what: heartbeats of consumers and descriptions of models. Written by consumers, read by anybody."""

import asyncio
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.keys import GROUP, MODELS, Partition
from stream.model import ModelDescription
from stream.scripts import load

#: The part of a lease for which a heartbeat holds: three beats, of which two may fail. Less than the whole, so that
#: whoever looks once a second sees that a consumer died before its lease ends and its work moves to others.
HEARTBEAT_SHARE = 0.75

#: How long a consumer that died stays listed, so that somebody who looks sees that it died.
_FORGET_S = 600


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """What a consumer says of itself with each heartbeat; rates in images per second.

    `digest` is that of the model's file, empty where the consumer is too old to say so.
    """

    name: str
    host: str
    pid: int
    version: str
    provider: str
    state: str
    images_per_s: float = 0.0
    images: int = 0
    last_batch: int = 0
    held: int = 0
    reclaimed: int = 0
    digest: str = ""
    alive: bool = True

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        known = {field: value for field, value in json.loads(raw).items() if field in cls.__slots__}
        return cls(**known)


class Presence:
    """One partition's list of living consumers and of the versions they serve.

    `shared` is the client for what belongs to no partition, where that is another one.
    """

    def __init__(self, redis: Redis, partition: Partition, shared: Redis | None = None) -> None:
        self._redis = redis
        self._shared = shared or redis
        self._partition = partition
        self._heartbeat = load(redis, "stream.scripts", "heartbeat")
        self._leave = load(redis, "stream.scripts", "leave")

    async def announce(self, model: ModelDescription) -> None:
        """Publish the description that ingest prepares pictures by."""
        await self._redis.hset(self._partition.versions, model.version, model.encode())
        await self._shared.zadd(MODELS, {model.name: self._partition.number + 1}, gt=True)

    async def heartbeat(self, report: ConsumerReport, *, lease_s: float) -> tuple[int, bool]:
        """Say "alive for another three quarters of a lease".

        Returns Redis's clock (Unix ms), and whether its version is still announced: after a flush it is not.
        """
        keys = [self._partition.alive, self._partition.consumers, self._partition.versions]
        arguments: list[bytes | str | int] = [
            report.name,
            int(lease_s * HEARTBEAT_SHARE * 1000),
            report.encode(),
            _FORGET_S * 1000,
            report.version,
        ]
        now_ms, announced = await self._heartbeat(keys, arguments)
        return int(now_ms), bool(announced)

    async def leave(self, consumer: str) -> int:
        """Say goodbye; returns how many entries the consumer still held."""
        keys = [self._partition.entries, self._partition.alive, self._partition.consumers]
        return int(await self._leave(keys, [GROUP, consumer]))

    async def consumers(self) -> list[ConsumerReport]:
        """The latest report of each consumer, the dead of the last minutes included (`alive` says which)."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(self._partition.alive, 0, -1, withscores=True)
            pipe.hgetall(self._partition.consumers)
            (seconds, microseconds), alive_until, reports = await pipe.execute()
        now_ms = seconds * 1000 + microseconds // 1000
        living = {name for name, until_ms in alive_until if until_ms >= now_ms}
        return [replace(ConsumerReport.decode(raw), alive=name in living) for name, raw in sorted(reports.items())]

    async def versions(self) -> dict[str, ModelDescription]:
        """The descriptions of all versions ever announced, by version."""
        found: Any = await self._redis.hgetall(self._partition.versions)
        return {version.decode(): ModelDescription.decode(raw) for version, raw in found.items()}


async def partition_counts(shared: Redis) -> dict[str, int]:
    """All models that consumers have announced, sorted by name, and how many partitions each has or ever had."""
    found: Any = await shared.zrange(MODELS, 0, -1, withscores=True)
    return {name.decode(): max(1, int(count)) for name, count in sorted(found)}


class CachedPartitionCounts:
    """`partition_counts`, as last heard where the server with that list is away: in a Cluster others may be there."""

    def __init__(self, shared: Redis, *, timeout_s: float) -> None:
        self._shared = shared
        self._timeout_s = timeout_s
        self._last: dict[str, int] = {}

    async def counts(self) -> dict[str, int]:
        """Raises redis-py's errors or TimeoutError where no model was ever heard of."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._last = await partition_counts(self._shared)
        except (RedisError, TimeoutError):
            if not self._last:
                raise
        return self._last


async def raise_partition_count(shared: Redis, model: str, partitions: int) -> None:
    """Let a model that was announced have at least so many partitions."""
    await shared.zadd(MODELS, {model: partitions}, xx=True, gt=True)


async def partitions_of(shared: Redis) -> list[Partition]:
    """All partitions of all models, those included that nobody sends to any more."""
    counts = await partition_counts(shared)
    return [Partition(model, number) for model, count in counts.items() for number in range(count)]


async def model_names(shared: Redis) -> list[str]:
    """The names of all models that consumers have announced, sorted."""
    return list(await partition_counts(shared))
