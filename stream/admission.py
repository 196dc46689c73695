"""Admission: an image becomes a stream entry, or is refused."""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from stream.connection.client import Client
from stream.entry import Entry
from stream.keys import EntryStream, Partition
from stream.scripts import load
from stream.server_check import ServerFacts, doubts, problems, read_facts
from stream.settings import Durability

logger = logging.getLogger(__name__)

#: How long pixels stay if their entry is neither admitted nor refused, because the connection was lost.
_ORPHAN_MS: Final = 60_000

#: The key of the pixels that `probe` writes, and how long it stays.
_PROBE: Final = "probe"
_PROBE_MS: Final = 1000

#: How long the facts about a server count, as far as admissions depend on them.
_RECHECK_S: Final = 30.0


class AdmissionRefused(Exception):
    """The stream did not accept the entry.

    AdmissionRefused
    ├── QueueFull       it holds as many entries as it may
    ├── NoLiveConsumer  no consumer is alive
    ├── NotReplicated   the entry is in the stream, but on too few replicas or disks: it can get lost before its outcome
    └── NotDurable      the server can never confirm the durability; nothing was written
    """

    def __init__(self, backlog: int) -> None:
        super().__init__(f"refused at a backlog of {backlog}")
        self.backlog = backlog


class QueueFull(AdmissionRefused):
    pass


class NoLiveConsumer(AdmissionRefused):
    pass


class NotReplicated(AdmissionRefused):
    pass


class NotDurable(AdmissionRefused):
    pass


class Admission:
    """Admits entries to one partition.

    An entry counts as admitted once it has the durability, and is on so many replicas, within `wait_s`.
    """

    def __init__(
        self,
        redis: Redis,
        partition: Partition,
        *,
        result_ttl_s: float,
        replicas: int = 0,
        wait_s: float = 0.0,
        durability: Durability = "memory",
    ) -> None:
        assert isinstance(redis, Client), "only its commands are sure to share a connection"
        self._redis = redis
        self._partition = partition
        self._replicas = replicas
        self._wait_ms = max(1, int(wait_s * 1000))
        self._result_ttl_s = result_ttl_s
        self._durability = _DurabilityCheck(redis, durability) if durability != "memory" else None
        self._script = load(redis, "stream.scripts", "admit")

    async def admit(
        self,
        entry: Entry,
        *,
        timeout_s: float,
        max_backlog: int,
        without_consumers: bool = False,
        stream: EntryStream | None = None,
        inline: bool = False,
    ) -> int:
        """Append the entry to a stream of this partition, due in `timeout_s` by Redis's clock; returns the backlog of
        the stream, this entry included. Without `stream`, the entry is interactive and for any version.

        It is refused if `max_backlog` entries are in the stream, whichever ingest admitted them, and if no consumer is
        alive, unless it may wait `without_consumers`. With `inline` its pixels are also among its fields, for consumers
        that read them only there.

        Admitting the same request id again changes nothing. Raises an AdmissionRefused, or redis-py's errors;
        after a lost reply it is not known whether the entry is in the stream.
        """
        on_disk = await self._durability.waits() if self._durability else False
        to = stream or self._partition.stream()
        pixels = self._partition.pixels(entry.id)
        keys = [to.key, self._partition.request(entry.id), self._partition.alive, pixels]
        if to.version:
            keys.append(self._partition.wanted_versions)
        ttl_ms = int((self._result_ttl_s + timeout_s) * 1000)
        arguments: list[Any] = [max_backlog, ttl_ms, int(timeout_s * 1000), int(without_consumers)]
        arguments += [int(on_disk or self._replicas > 0), to.prefix, to.version, *entry.fields(inline=inline)]
        commands = (
            ("SET", pixels, entry.pixel_value, "PX", _ORPHAN_MS),
            ("EVALSHA", self._script.sha, len(keys), *keys, *arguments),
        )
        (verdict, backlog), is_safe = await self._decide(commands, on_disk=on_disk)
        match verdict:
            case b"full":
                raise QueueFull(backlog)
            case b"no_consumer":
                raise NoLiveConsumer(backlog)
            case _:
                assert verdict in {b"admitted", b"known"}, verdict
                if not is_safe:
                    raise NotReplicated(backlog)
                return int(backlog)

    async def probe(self) -> None:
        """Write as for an image, but nothing that a consumer reads.

        Raises NotReplicated, NotDurable, or redis-py's errors, as `admit` would.
        """
        on_disk = await self._durability.waits() if self._durability else False
        command = ("SET", self._partition.pixels(_PROBE), b"", "PX", _PROBE_MS)
        replies = await self._redis.execute_together(command, *self._waits(on_disk=on_disk))
        if not self._is_safe(replies, on_disk=on_disk):
            raise NotReplicated(0)

    async def _decide(self, commands: Sequence[Sequence[Any]], *, on_disk: bool) -> tuple[list[Any], bool]:
        """The script's reply, and whether what it wrote is where it must be."""
        waits = self._waits(on_disk=on_disk)
        replies = await self._redis.execute_together(*commands, *waits)
        if isinstance(replies[1], NoScriptError):
            await self._redis.script_load(self._script.script)
            replies = await self._redis.execute_together(*commands, *waits)
        return replies[1], self._is_safe(replies, on_disk=on_disk)

    def _waits(self, *, on_disk: bool) -> list[Sequence[Any]]:
        # On one connection with what is written, because WAIT and WAITAOF refer to what their own connection wrote.
        waits: list[Sequence[Any]] = [("WAIT", self._replicas, self._wait_ms)] if self._replicas else []
        return [*waits, ("WAITAOF", 1, 0, self._wait_ms)] if on_disk else waits

    def _is_safe(self, replies: list[Any], *, on_disk: bool) -> bool:
        """Whether what was written is where it must be, by the last replies; raises an error among them."""
        is_synced = not on_disk or _is_synced(replies[-1])
        confirmed = replies[:-1] if on_disk else replies
        for error in confirmed:
            if isinstance(error, RedisError):
                raise error
        return is_synced and (not self._replicas or confirmed[-1] >= self._replicas)


class _DurabilityCheck:
    """Whether admissions to one server must wait until its append-only file is on the disk."""

    def __init__(self, redis: Redis, durability: Durability) -> None:
        self._redis = redis
        self._durability: Durability = durability
        self._checked_s = -_RECHECK_S
        self._waits = False
        self._can_confirm = True
        self._reported: list[str] = []

    async def waits(self) -> bool:
        """Asks the server at most every half a minute; raises NotDurable, or redis-py's errors."""
        if time.monotonic() - self._checked_s >= _RECHECK_S:
            facts = await read_facts(self._redis)
            self._waits = self._must_wait(facts)
            self._can_confirm = facts.can_confirm(self._durability)
            self._report([*problems(facts, self._durability), *doubts(facts, self._durability)])
            self._checked_s = time.monotonic()
        if not self._can_confirm:
            raise NotDurable(0)
        return self._waits

    def _must_wait(self, facts: ServerFacts) -> bool:
        if facts.survives(self._durability):
            return False
        if self._durability == "disk":
            return True
        return facts.appendonly is not False and bool(facts.has_waitaof)

    def _report(self, found: list[str]) -> None:
        for problem in found:
            if problem not in self._reported:
                logger.warning("%s", problem)
        self._reported = found


def _is_synced(reply: Any) -> bool:  # noqa: ANN401 (a reply, or the error of a server that has no file to sync)
    if isinstance(reply, NoPermissionError):
        raise reply  # No later attempt succeeds: the rights of the user must change.
    return not isinstance(reply, ResponseError) and bool(reply[0] >= 1)
