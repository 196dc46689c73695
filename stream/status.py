"""Reads the status of a model or partition: its consumers, its backlog and what is wrong with it.

All ages are by Redis's clock, so that the clock of the reader does not matter.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream import unreadable
from stream.connection.clients import Connections
from stream.keys import GROUP, Partition
from stream.presence import ConsumerReport, decode_reports
from stream.scripts import load

#: Pending entries looked at for each consumer. One holds two batches, of 32 unless somebody configured more.
_MOST_PENDING = 1000

#: Digits of a counter; what is longer would be none of Redis's.
_LONGEST_COUNT = 20


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """One consumer, by what it says of itself and by what Redis knows of it; times in seconds.

    `report` is None where its heartbeat is forgotten or was never heard; `silent_s` is the time since the
    heartbeat ended, 0 for the living, None where it is unknown. Of `held` entries, the oldest was accepted
    `oldest_s` ago and the lease of the stalest was last renewed `idle_s` ago.
    """

    name: str
    report: ConsumerReport | None
    silent_s: float | None
    held: int
    oldest_s: float
    idle_s: float

    @property
    def alive(self) -> bool:
        return self.silent_s == 0


@dataclass(frozen=True, slots=True)
class Status:
    """One partition at one moment.

    Of `backlog` entries `pending` are in consumers' hands; `lag` is what Redis counts as never delivered, None
    where it has lost count. `oldest_s` is the age of the oldest entry in seconds, None where there is none.
    `counters` counts events over all processes since the data began. For several partitions, `backlogs` has one
    number for each: None if it is `unavailable`, and then all other figures lack it. `server_problems` says what is
    wrong with the server, if it was checked.
    """

    model: str
    now_ms: int
    members: tuple[ConsumerStatus, ...]
    backlog: int
    pending: int
    lag: int | None
    oldest_s: float | None
    dead_letters: int
    counters: Mapping[str, int]
    backlogs: tuple[int | None, ...] = ()
    server_problems: tuple[str, ...] = ()

    @property
    def unavailable(self) -> tuple[int, ...]:
        """The numbers of the partitions that do not answer."""
        return tuple(number for number, backlog in enumerate(self.backlogs) if backlog is None)

    @property
    def living(self) -> int:
        """How many consumers are alive."""
        return sum(member.alive for member in self.members)

    @property
    def images_per_s(self) -> float:
        """What the living consumers can do together, at the speed that each measured: how fast a backlog drains."""
        return math.fsum(member.report.images_per_s for member in self.members if member.alive and member.report)

    @property
    def drain_s(self) -> float | None:
        """Seconds until the backlog is worked off at that speed; None where nobody works."""
        if self.backlog == 0:
            return 0.0
        return self.backlog / self.images_per_s if self.images_per_s > 0 else None

    def problems(self, *, max_age_s: float) -> list[str]:
        """What is wrong, in a sentence each; a backlog may be `max_age_s` old. Empty: the partition is healthy."""
        found = [f"Partition {number} does not answer." for number in self.unavailable]
        found += self.server_problems
        if self.living == 0:
            found.append("No consumer is alive.")
        if self.oldest_s is not None and self.oldest_s > max_age_s:
            found.append(f"The oldest of {self.backlog} entries waits for {self.oldest_s:.1f} s.")
        found += [
            f"{member.name} stays with version {member.report.version} and refuses version {member.report.refused}"
            for member in self.members
            if member.alive and member.report and member.report.refused
        ]
        found += [
            f"{member.name} is dead and holds {member.held} entries, silent for {member.idle_s:.1f} s."
            for member in self.members
            if member.held and not member.alive
        ]
        return found


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
    return _merge(there, backlogs)


def _merge(parts: Sequence[Status], backlogs: tuple[int | None, ...]) -> Status:
    lags = [part.lag for part in parts]
    ages = [part.oldest_s for part in parts if part.oldest_s is not None]
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
        lag=None if None in lags else sum(lag or 0 for lag in lags),
        oldest_s=max(ages, default=None),
        dead_letters=sum(part.dead_letters for part in parts),
        counters=dict(sorted(counters.items())),
        backlogs=backlogs,
    )


def _member(parts: Sequence[ConsumerStatus]) -> ConsumerStatus:
    """One consumer, by what it says in each partition: a share of its speed, and what it holds there."""
    reports = [part.report for part in parts if part.report]
    silences = [part.silent_s for part in parts if part.silent_s is not None]
    speed = math.fsum(report.images_per_s for report in reports)
    held = sum(report.held for report in reports)
    return ConsumerStatus(
        name=parts[0].name,
        report=replace(reports[0], images_per_s=speed, held=held) if reports else None,
        silent_s=min(silences, default=None),
        held=sum(part.held for part in parts),
        oldest_s=max(part.oldest_s for part in parts),
        idle_s=max(part.idle_s for part in parts),
    )


async def read_status(redis: Redis, partition: Partition) -> Status:
    """The partition's status now, in one round trip; raises redis-py's errors."""
    of = partition
    keys = [of.entries, of.alive, of.consumers, of.counters, of.dead_letters]
    reply = await load(redis, "stream.scripts", "status")(keys, [GROUP, _MOST_PENDING])
    now_ms, backlog, oldest, pending, lag, dead_letters, counters, reports, alive, held = reply
    return Status(
        model=partition.model,
        now_ms=now_ms,
        members=_members(now_ms, dict(_reports(of, reports)), _named(alive), held),
        backlog=backlog,
        pending=pending,
        lag=lag,
        oldest_s=None if oldest is None else _age_s(now_ms, oldest),
        dead_letters=dead_letters,
        counters=dict(_counts(of, counters)),
    )


def _members(
    now_ms: int, reports: Mapping[str, ConsumerReport], alive_until: Mapping[str, bytes], held: list[list[Any]]
) -> tuple[ConsumerStatus, ...]:
    pending = {_text(name): rest for name, *rest in held}
    members = []
    for name in sorted({*reports, *pending}):
        count, idle_ms, oldest = pending.get(name, (0, 0, None))
        members.append(
            ConsumerStatus(
                name=name,
                report=reports.get(name),
                silent_s=max(0.0, (now_ms - float(alive_until[name])) / 1000) if name in alive_until else None,
                held=count,
                oldest_s=0.0 if oldest is None else _age_s(now_ms, oldest),
                idle_s=idle_ms / 1000,
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


def _age_s(now_ms: int, entry_id: bytes) -> float:
    """Time since an entry was accepted: the first half of its id is Redis's clock at that moment."""
    return max(0.0, (now_ms - int(entry_id.partition(b"-")[0])) / 1000)
