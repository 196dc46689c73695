"""Which consumers are alive, and which models they serve. Consumers write it, everybody reads it."""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream import unreadable
from stream.keys import GROUP, MAX_PARTITIONS, MODELS, EntryStream, Partition, valid_model_name, valid_version
from stream.model import ModelDescription
from stream.scripts import load

logger = logging.getLogger(__name__)

#: The part of a lease for which a heartbeat is valid: three heartbeats, of which two may fail. It is less than the
#: whole lease, so that a dead consumer is noticed before others claim its work.
HEARTBEAT_SHARE = 0.75

#: Seconds after an outage of Redis in which consumers send their heartbeats again. Meanwhile those that were alive
#: before count as alive: nobody could send a heartbeat during the outage.
RECOVERY_S: Final = 1.0

#: How long a consumer that died stays listed, so that an operator sees that it died.
_FORGET_S = 600


#: Images per second of one consumer, beyond which a report is none. The sum over all consumers stays finite.
_MOST_PER_S: Final = 1e9

#: The state of a consumer that stops, and still finishes what it has.
LEAVING: Final = "leaving"


#: The number of partitions of a model that was forgotten.
FORGOTTEN: Final = 0


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """What a consumer says of itself with each heartbeat; rates in images per second.

    `bulk_images_per_s` is what it can do besides the interactive images of the last seconds; None if the consumer
    is too old to read other streams than the one for interactive images of any version. `digest` is that of the
    model's file, empty if the consumer is too old to send it. `refused` is a version that was to replace this one,
    and why it does not; `passed_over` is a higher version that is not wanted, and why. `load_requests` is the number of
    the newest request to load the model that this consumer has carried out. `preparation` is that
    of its version, empty if the consumer is too old to send it. `reads_any` is whether it reads the streams for any
    version, and `follows` whether it changes to the stable version of a release while it serves. Raises ValueError if a
    field makes no sense.
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
    bulk_images_per_s: float | None = None
    digest: str = ""
    refused: str = ""
    passed_over: str = ""
    load_requests: int = 0
    preparation: str = ""
    reads_any: bool = True
    follows: bool = False
    alive: bool = True

    def __post_init__(self) -> None:
        if not all(type(one) is bool for one in (self.reads_any, self.follows)):
            raise ValueError("a consumer report does not say which streams are read, or whether it follows a release")
        texts = (
            *(self.name, self.host, self.provider, self.state, self.digest, self.preparation),
            *(self.refused, self.passed_over),
        )
        if not (all(isinstance(text, str) for text in texts) and valid_version(self.version)):
            raise ValueError("a field of a consumer report is no text, or the version no number")
        numbers = (self.pid, self.images, self.last_batch, self.held, self.reclaimed, self.load_requests)
        if not all(type(number) is int and 0 <= number < 1 << 53 for number in numbers):
            raise ValueError("a count of a consumer report is no whole number")
        for rate in (self.images_per_s, self.bulk_rate):
            if type(rate) not in {int, float} or not 0 <= rate <= _MOST_PER_S:
                raise ValueError("the rate of a consumer report is no number")

    @property
    def is_leaving(self) -> bool:
        """Whether it stops, and others are to take what comes from now on."""
        return self.state == LEAVING

    @property
    def is_older(self) -> bool:
        """Whether it is from before an upgrade. It reads no stream but that for interactive images of any version, and
        no pixels but those among the fields of an entry."""
        return self.bulk_images_per_s is None

    @property
    def bulk_rate(self) -> float:
        """Bulk images that it can classify in a second, as far as is known."""
        return self.images_per_s if self.bulk_images_per_s is None else self.bulk_images_per_s

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what `encode` wrote. Raises ValueError for anything else, and ignores fields of newer versions."""
        try:
            known = {field: value for field, value in unreadable.parse_json(raw).items() if field in cls.__slots__}
            return cls(**known)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a consumer report: {error}") from error


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What Redis says to a heartbeat.

    `now_ms` is Redis's clock (Unix milliseconds). `announced` says whether the consumer's version is still announced:
    after a flush it is not. `waiting_versions` are other versions for which entries wait in streams of their own.
    """

    now_ms: int
    announced: bool
    waiting_versions: frozenset[str] = frozenset()


class Presence:
    """The living consumers of one partition, and the versions that they serve.

    `shared` is the client for keys that belong to no partition; None: the same as `redis`.
    """

    def __init__(self, redis: Redis, partition: Partition, shared: Redis | None = None) -> None:
        self._redis = redis
        self._shared = shared or redis
        self._partition = partition
        self._heartbeat = load(redis, "stream.scripts", "heartbeat")
        self._leave = load(redis, "stream.scripts", "leave")
        self._report = load(redis, "stream.scripts", "report")

    async def announce(self, model: ModelDescription) -> None:
        """Publish the description that ingest prepares images by."""
        await self._redis.hset(self._partition.versions, model.version, model.encode())
        await self.announce_partition()

    async def announce_partition(self) -> None:
        """Publish that the model has this partition; repeating it changes nothing."""
        await self._shared.zadd(MODELS, {self._partition.model: self._partition.number + 1}, gt=True)

    async def heartbeat(self, report: ConsumerReport, *, lease_s: float) -> Heartbeat:
        """Report as alive for another three quarters of a lease.

        Announces the partition again, so that the list of models heals by itself.
        """
        of = self._partition
        streams = of.streams(report.version)
        # The first stream is the one for any version: the names of the others begin with its name.
        keys = [of.alive, of.consumers, of.versions, of.wanted_versions, of.entries]
        keys += [stream.key for stream in streams if stream.key != of.entries]
        arguments: list[bytes | str | int] = [
            report.name,
            int(lease_s * HEARTBEAT_SHARE * 1000),
            report.encode(),
            _FORGET_S * 1000,
            report.version,
            json.dumps({"name": self._partition.model, "version": report.version}, separators=(",", ":"))[:-1],
            GROUP,
        ]
        now_ms, announced, set_back, *versions = await self._heartbeat(keys, arguments)
        if set_back:
            logger.warning("the clock of Redis was set back: leases of dead consumers end a lease from now")
        with suppress(RedisError):  # In a Cluster another server has this key: its outage must not end a heartbeat.
            await self.announce_partition()
        waiting = {version.decode(errors="replace") for version in versions} - {report.version}
        return Heartbeat(int(now_ms), bool(announced), frozenset(filter(valid_version, waiting)))

    async def report(self, report: ConsumerReport) -> None:
        """Replace the last report of a consumer that is listed; its heartbeat stays valid for as long as it was."""
        await self._report([self._partition.alive, self._partition.consumers], [report.name, report.encode()])

    async def leave(self, consumer: str, streams: Iterable[EntryStream] = ()) -> int:
        """Remove a consumer that stops, and that read these streams; returns how many entries it still holds."""
        of = self._partition
        keys = [of.alive, of.consumers, *(stream.key for stream in streams or of.streams())]
        return int(await self._leave(keys, [GROUP, consumer]))

    async def consumers(self) -> list[ConsumerReport]:
        """The last report of each consumer, also of those that died within the last minutes (`alive` says which)."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(self._partition.alive, 0, -1, withscores=True)
            pipe.hgetall(self._partition.consumers)
            (seconds, microseconds), alive_until, reports = await pipe.execute()
        now_ms = seconds * 1000 + microseconds // 1000
        living = {name for name, until_ms in alive_until if until_ms >= now_ms}
        decoded = decode_reports(self._partition, reports)
        return [replace(report, alive=name in living) for name, report in sorted(decoded)]

    async def versions(self) -> dict[str, ModelDescription]:
        """The descriptions of all versions ever announced, by version."""
        found: Any = await self._redis.hgetall(self._partition.versions)
        return dict(_decode_versions(self._partition, found))


def decode_reports(partition: Partition, reports: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, ConsumerReport]]:
    """Each report that can be read, with the name that it is filed under."""
    for name, raw in reports.items():
        try:
            yield name, ConsumerReport.decode(raw)
        except ValueError as error:
            unreadable.skip("consumer report", partition.consumers, error)


def _decode_versions(partition: Partition, found: Mapping[bytes, bytes]) -> Iterator[tuple[str, ModelDescription]]:
    for version, raw in found.items():
        try:
            model = ModelDescription.decode(raw)
            if (model.name, model.version.encode()) != (partition.model, version):
                raise ValueError(f"it describes {model.name} {model.version}, but is filed under {version[:40]!r}")
        except ValueError as error:
            unreadable.skip("model description", partition.versions, error)
        else:
            yield model.version, model


async def forget_model(shared: Redis, model: str) -> None:
    """Take a model from the list, until a consumer announces it again.

    Its name stays, so that each ingest can tell it from a model that Redis has lost with its other data.
    """
    await shared.zadd(MODELS, {model: FORGOTTEN}, xx=True)


async def listed_models(shared: Redis) -> dict[str, int]:
    """All models that consumers have announced, sorted by name, and how many partitions each has or ever had.

    Those that were forgotten since have FORGOTTEN.
    """
    found: Any = await shared.zrange(MODELS, 0, -1, withscores=True)
    return dict(_decode_counts(found))


async def partition_counts(shared: Redis) -> dict[str, int]:
    """`listed_models` without those that were forgotten."""
    return {name: count for name, count in (await listed_models(shared)).items() if count != FORGOTTEN}


def _decode_counts(found: list[tuple[bytes, float]]) -> Iterator[tuple[str, int]]:
    for raw, count in sorted(found):
        name = raw.decode(errors="replace")
        if not valid_model_name(name):
            unreadable.skip("model name", MODELS, ValueError(repr(raw[:60])))
        elif not FORGOTTEN <= count <= MAX_PARTITIONS:
            unreadable.skip("number of partitions", MODELS, ValueError(f"{name}: {count}"))
        else:
            yield name, max(1, int(count)) if count else FORGOTTEN


class CachedPartitionCounts:
    """`partition_counts`, or its last result while its server is unavailable: in a Cluster other servers may work."""

    def __init__(self, shared: Redis, *, timeout_s: float) -> None:
        self._shared = shared
        self._timeout_s = timeout_s
        self._last: dict[str, int] = {}

    async def counts(self) -> dict[str, int]:
        """Raises redis-py's errors or TimeoutError if it never had a result."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._last = await partition_counts(self._shared)
        except (RedisError, TimeoutError):
            if not self._last:
                raise
        return self._last


async def raise_partition_count(shared: Redis, model: str, partitions: int) -> None:
    """Give a model that was announced at least this many partitions."""
    await shared.zadd(MODELS, {model: partitions}, xx=True, gt=True)
