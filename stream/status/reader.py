"""Reads the status of a model or partition, in one round trip for each partition."""

import asyncio
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream import unreadable
from stream.connection.clients import Connections
from stream.keys import GROUP, PRIORITIES, SENDERS, Partition, Priority, age_s
from stream.load_requests import LoadRequests
from stream.presence import ConsumerReport, decode_reports
from stream.releases import read_release
from stream.scripts import load
from stream.status.report import ClassStatus, ConsumerStatus, Sending, Status, oldest_of

T = TypeVar("T")

#: Pending entries looked at for each consumer. One holds two batches, of 32 unless somebody configured more.
_MOST_PENDING = 1000

#: A sender reads several times a second, but not while each of its attempts waits for a receiver.
_SENDER_SILENT_MS = 30_000

#: Digits of a counter; what is longer would be none of Redis's.
_LONGEST_COUNT = 20


async def read_model(
    connections: Connections, model: str, partitions: int, *, timeout_s: float | None = None
) -> Status:
    """The status of all partitions of a model together; each has `timeout_s` to answer.

    Raises redis-py's errors or TimeoutError where none of them answers.
    """

    async def read(partition: Partition) -> Status:
        async with asyncio.timeout(timeout_s):
            return await read_status(connections.client_for(partition), partition)

    of = [Partition(model, number) for number in range(partitions)]
    found = await asyncio.gather(*map(read, of), return_exceptions=True)
    there = [one for one in found if isinstance(one, Status)]
    for error in found:
        if isinstance(error, BaseException) and not (there and isinstance(error, RedisError | TimeoutError)):
            raise error
    backlogs = tuple(one.backlog if isinstance(one, Status) else None for one in found)
    shared = connections.shared
    release = await _or_default(lambda: read_release(shared, model), None, timeout_s)
    unloaded = await _or_default(LoadRequests(shared).unloaded, set[str](), timeout_s)
    return replace(_merge(there, backlogs), release=release, unloaded=model in unloaded)


async def _or_default(read: Callable[[], Awaitable[T]], default: T, timeout_s: float | None) -> T:
    """What is read; the default if its server is unavailable, which in a Cluster may be one of several."""
    try:
        async with asyncio.timeout(timeout_s):
            return await read()
    except (RedisError, TimeoutError):
        return default


def _merge(parts: Sequence[Status], backlogs: tuple[int | None, ...]) -> Status:
    counters: Counter[str] = Counter()
    members: dict[str, list[ConsumerStatus]] = {}
    for part in parts:
        counters.update(part.counters)
        for member in part.members:
            members.setdefault(member.name, []).append(member)
    return Status(
        model=parts[0].model,
        now_ms=parts[0].now_ms,
        members=tuple(_member(members[name]) for name in sorted(members)),
        backlog=sum(part.backlog for part in parts),
        pending=sum(part.pending for part in parts),
        oldest_s=oldest_of(*(part.oldest_s for part in parts)),
        dead_letters=sum(part.dead_letters for part in parts),
        counters=dict(sorted(counters.items())),
        classes={name: _sum_of(part.classes[name] for part in parts) for name in PRIORITIES},
        backlogs=backlogs,
        sending=Sending(
            sum(part.sending.webhooks for part in parts),
            sum(part.sending.dead_webhooks for part in parts),
            # Each of them serves every partition.
            max(part.sending.senders for part in parts),
        ),
    )


def _sum_of(parts: Iterable[ClassStatus]) -> ClassStatus:
    return functools.reduce(ClassStatus.plus, parts, ClassStatus())


def _member(parts: Sequence[ConsumerStatus]) -> ConsumerStatus:
    """One consumer, by what it says in each partition: a share of its speed, and what it holds there."""
    reports = [part.report for part in parts if part.report]
    silences = [part.silent_s for part in parts if part.silent_s is not None]
    speed = math.fsum(report.images_per_s for report in reports)
    bulk = math.fsum(report.bulk_rate for report in reports)
    held = sum(report.held for report in reports)
    # It reports in one partition after the other; its counts only grow.
    newest = max(reports, key=lambda report: report.images, default=None)
    return ConsumerStatus(
        name=parts[0].name,
        report=replace(newest, images_per_s=speed, bulk_images_per_s=bulk, held=held) if newest else None,
        silent_s=min(silences, default=None),
        held=sum(part.held for part in parts),
        oldest_s=max(part.oldest_s for part in parts),
        idle_s=max(part.idle_s for part in parts),
    )


async def read_status(redis: Redis, partition: Partition) -> Status:
    """The partition's status now, in one round trip; raises redis-py's errors."""
    of = partition
    keys = [of.alive, of.consumers, of.counters, of.dead_letters, of.wanted_versions, of.webhooks, of.dead_webhooks]
    keys += [of.stream(priority).key for priority in PRIORITIES]
    arguments: list[str | int] = [GROUP, _MOST_PENDING, SENDERS, _SENDER_SILENT_MS]
    reply = await load(redis, "stream.scripts", "status")(keys, arguments)
    now_ms, dead_letters, counters, reports, alive, sending, *found = reply
    streams = [_StreamStatus.of(now_ms, one) for one in found]
    classes = {name: _sum_of(one.status for one in streams if one.priority == name) for name in PRIORITIES}
    whole = _sum_of(classes.values())
    held = [holder for stream in streams for holder in stream.held]
    return Status(
        model=partition.model,
        now_ms=now_ms,
        members=_members(now_ms, dict(_reports(of, reports)), _named(alive), held),
        backlog=whole.backlog,
        pending=whole.pending,
        oldest_s=whole.oldest_s,
        dead_letters=dead_letters,
        counters=dict(_counts(of, counters)),
        classes=classes,
        sending=Sending(*sending),
    )


@dataclass(frozen=True, slots=True)
class _StreamStatus:
    """One stream. `held` has the name, the number of entries, the ms since the stalest was renewed and the age of the
    oldest in seconds, for each consumer in the group."""

    priority: Priority
    status: ClassStatus
    held: list[tuple[str, int, int, float]]

    @classmethod
    def of(cls, now_ms: int, reply: list[Any]) -> Self:
        number, _, backlog, oldest, pending, held = reply
        oldest_s = None if oldest is None else age_s(now_ms, oldest.decode())
        return cls(
            PRIORITIES[number],
            ClassStatus(backlog, pending, oldest_s),
            [
                (_text(name), *rest, 0.0 if first is None else age_s(now_ms, first.decode()))
                for name, *rest, first in held
            ],
        )


def _members(
    now_ms: int,
    reports: Mapping[str, ConsumerReport],
    alive_until: Mapping[str, bytes],
    held: Iterable[tuple[str, int, int, float]],
) -> tuple[ConsumerStatus, ...]:
    holding: defaultdict[str, list[tuple[int, int, float]]] = defaultdict(list)
    for name, count, idle_ms, oldest_s in held:
        # A group keeps the name of a consumer that stopped until a living one removes it; none reads the streams of a
        # version that is served no more.
        if not count and name not in reports and name not in alive_until:
            continue
        holding[name].append((count, idle_ms, oldest_s))
    members = []
    for name in sorted({*reports, *holding}):
        counts, idles_ms, ages_s = zip(*holding[name] or [(0, 0, 0.0)], strict=True)
        members.append(
            ConsumerStatus(
                name=name,
                report=reports.get(name),
                silent_s=max(0.0, (now_ms - float(alive_until[name])) / 1000) if name in alive_until else None,
                held=sum(counts),
                oldest_s=max(ages_s),
                idle_s=max(idles_ms) / 1000,
            )
        )
    return tuple(members)


def _reports(partition: Partition, flat: list[bytes]) -> Iterator[tuple[str, ConsumerReport]]:
    pairs = dict(zip(flat[::2], flat[1::2], strict=True))
    return ((_text(name), report) for name, report in decode_reports(partition, pairs))


def _counts(partition: Partition, flat: list[bytes]) -> Iterator[tuple[str, int]]:
    for event, count in sorted(_named(flat).items()):
        if count.isdigit() and len(count) < _LONGEST_COUNT:
            yield event, int(count)
        else:
            unreadable.skip("counter", partition.counters, ValueError(f"{event}: {count[:40]!r}"))


def _named(flat: list[bytes]) -> dict[str, bytes]:
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
