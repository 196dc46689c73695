"""The status of a model or partition: its consumers, its backlog and what is wrong with it.

All ages are by Redis's clock, so that the clock of the reader does not matter. stream/status/reader.py reads it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stream.host.text import counted, duration
from stream.keys import Priority
from stream.presence import ConsumerReport
from stream.releases import ReleaseStatus


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

    @property
    def silence_s(self) -> float:
        """The time since its heartbeat ended, or since it last renewed a lease if that is not known."""
        return self.idle_s if self.silent_s is None else self.silent_s


@dataclass(frozen=True, slots=True)
class ClassStatus:
    """One priority class: its entries, how many of them consumers hold, and the age of the oldest in seconds."""

    backlog: int = 0
    pending: int = 0
    oldest_s: float | None = None

    def plus(self, other: "ClassStatus") -> "ClassStatus":
        return ClassStatus(
            self.backlog + other.backlog, self.pending + other.pending, oldest_of(self.oldest_s, other.oldest_s)
        )


@dataclass(frozen=True, slots=True)
class Sending:
    """Webhooks that wait for their delivery, those that were given up, and the senders that are alive."""

    webhooks: int = 0
    dead_webhooks: int = 0
    senders: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """One partition at one moment.

    Of `backlog` entries `pending` are in consumers' hands. `oldest_s` is the age of the oldest entry in seconds, None
    where there is none. `counters` counts events over all processes since the data began. For several partitions,
    `backlogs` has one number for each: None if it is `unavailable`, and then all other figures lack it.
    `server_problems` says what is wrong with the server, if it was checked, `server_doubts` what may be, and
    `refused_writes` why it accepts no write: without heartbeats, all consumers look dead then. `start` is the command
    that starts a consumer, if known. `classes` has the figures of each priority class. `unloaded`: an operator has
    unloaded the model.
    """

    model: str
    now_ms: int
    members: tuple[ConsumerStatus, ...]
    backlog: int
    pending: int
    oldest_s: float | None
    dead_letters: int
    counters: Mapping[str, int]
    classes: Mapping[Priority, ClassStatus]
    backlogs: tuple[int | None, ...] = ()
    server_problems: tuple[str, ...] = ()
    server_doubts: tuple[str, ...] = ()
    refused_writes: str = ""
    start: str = ""
    release: ReleaseStatus | None = None
    sending: Sending = Sending()
    unloaded: bool = False

    @property
    def unavailable(self) -> tuple[int, ...]:
        """The numbers of the partitions that do not answer."""
        return tuple(number for number, backlog in enumerate(self.backlogs) if backlog is None)

    @property
    def undelivered(self) -> int:
        """Entries that no consumer holds. Redis's own count, `lag`, can be far too high after a restart."""
        return max(0, self.backlog - self.pending)

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

    @property
    def bulk_images_per_s(self) -> float:
        """What the living consumers can do besides the interactive images of the last seconds."""
        return math.fsum(member.report.bulk_rate for member in self.members if member.alive and member.report)

    def problems(self, *, max_age_s: float) -> list[str]:
        """What is wrong, in a sentence each; a backlog may be `max_age_s` old. Empty: the partition is healthy."""
        found = [f"Partition {number} does not answer." for number in self.unavailable]
        if self.refused_writes:
            found.append(f"{self.refused_writes}. Heartbeats are refused, too: consumers may only look dead.")
        found += self.server_problems
        if self.living == 0 and not self.refused_writes:
            found.append("No consumer is alive." + (f" Start one with: {self.start}" if self.start else ""))
        if self.unloaded:
            load = f"POST /v2/repository/models/{self.model}/load with an admin key"
            found.append(f"An operator has unloaded the model, and every image is refused. Load it with: {load}")
        if self.oldest_s is not None and self.oldest_s > max_age_s:
            found.append(f"The oldest of {self.backlog} entries has waited for {self.oldest_s:.1f} s.")
        if self.sending.webhooks and not self.sending.senders:
            start = "Start one with: python -m ingest.webhooks"
            waiting = counted(self.sending.webhooks, "webhook waits", "webhooks wait")
            found.append(f"{waiting}, and no sender is alive. {start}")
        found += [
            f"{member.name} stays with version {member.report.version} and refuses version {member.report.refused}"
            for member in self.members
            if member.alive and member.report and member.report.refused
        ]
        if self.release:
            found += self.release.problems({one.report.version for one in self.members if one.alive and one.report})
        found += [
            f"{member.name} is dead and holds {member.held} entries, silent for {duration(member.silence_s)}."
            for member in self.members
            if member.held and not member.alive and not self.refused_writes
        ]
        return found


def oldest_of(*ages_s: float | None) -> float | None:
    return max((age_s for age_s in ages_s if age_s is not None), default=None)
