"""Reads, replays and drops dead letters: entries that Sluice gave up.

consumers/quarantine.py gives up an entry after `max_deliveries`, and consumers/completer.py one that cannot be read. A
dead letter is an entry of the stream `dead_letters`, written by complete.lua:

    field        value
    -----------  ----------------------------------------------------------
    reason       a sentence
    deliveries   how often the entry was delivered, decimal
    holders      the consumers that held it, separated by spaces
    entry        the name that the entry had: its id, behind the prefix of its stream
    ...          the entry's own fields, see stream/entry.py
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from stream.connection.clients import Connections
from stream.entry import Entry
from stream.keys import Partition, age_s
from stream.scripts import load

#: Dead letters read at once: at 150 kB each, a few milliseconds of the server's time.
_PAGE = 50

_OWN_FIELDS = ("reason", "deliveries", "holders", "entry")
_COUNT: Final = re.compile(r"[0-9]{1,9}")

#: The reason of a dead letter that does not begin with these fields.
_UNREADABLE: Final = "complete.lua cannot have written it"


class NotReplayable(Exception):
    """No consumer can read the entry, or nobody could fetch its outcome, because it has no request id."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its pixels.

    `age_s` counts from when the entry became a dead letter, by Redis's clock. `entry` has the entry's other fields
    unchanged, `pixels` the number of its bytes. `request_id` is empty if the entry has none. `partition` is the one
    that it lies in. If it is not readable, `entry` has all of its fields.
    """

    id: str
    age_s: float
    reason: str
    deliveries: int
    holders: tuple[str, ...]
    entry_id: str
    entry: Mapping[str, str]
    pixels: int
    partition: Partition
    is_readable: bool = True

    @property
    def request_id(self) -> str:
        return self.entry.get("id", "")

    @property
    def is_replayable(self) -> bool:
        return self.is_readable and bool(self.request_id)


class DeadLetters:
    """The dead letters of one partition."""

    def __init__(self, redis: Redis, partition: Partition) -> None:
        self._redis = redis
        self._partition = partition
        self._page = load(redis, "results.scripts", "list_dead_letters")
        self._replay = load(redis, "results.scripts", "replay")
        self._expire = load(redis, "results.scripts", "expire_dead_letters")

    async def all(self) -> list[DeadLetter]:
        """All dead letters, the oldest first, without their pixels."""
        return [dead_letter async for dead_letter in self._each()]

    async def _each(self) -> AsyncIterator[DeadLetter]:
        first = "-"
        while True:
            now_ms, *page = await self._page([self._partition.dead_letters], [first, _PAGE])
            for dead_letter in page:
                yield _decode(self._partition, now_ms, *dead_letter)
            if len(page) < _PAGE:
                return
            first = f"({page[-1][0].decode()}"

    async def image(self, dead_letter: DeadLetter) -> Entry | None:
        """The dead letter's entry with its pixels, None if it is gone; raises MalformedEntry."""
        found: Any = await self._redis.xrange(self._partition.dead_letters, dead_letter.id, dead_letter.id)
        return Entry.decode(found[0][1]) if found else None

    async def replay(self, dead_letter: DeadLetter, *, request_ttl_s: float) -> bool:
        """Put the entry back into its stream, in one step; its request is `queued` again for `request_ttl_s`, which is
        also its deadline.

        False if the dead letter is gone, and then nothing changes. Raises NotReplayable, or redis-py's errors,
        OutOfMemoryError among them.
        """
        if not dead_letter.is_replayable:
            why = "has no request id" if dead_letter.is_readable else "is none of Sluice's"
            raise NotReplayable(f"{dead_letter.id} {why}: no consumer can read it, it can only be dropped")
        of = self._partition
        stream = of.stream_of(dead_letter.entry_id)
        request = dead_letter.request_id
        keys = [stream.key, of.dead_letters, of.counters, of.request(request), of.pixels(request)]
        return await self._replay(keys, [dead_letter.id, int(request_ttl_s * 1000), stream.prefix]) is not None

    async def drop(self, dead_letter: DeadLetter) -> bool:
        """Delete the dead letter for good; False if it is gone already."""
        return bool(await self._redis.xdel(self._partition.dead_letters, dead_letter.id))

    async def drop_of_request(self, request_id: str) -> bool:
        """Delete all dead letters of a request for good; False if there are none."""
        found = [dead_letter for dead_letter in await self.all() if dead_letter.request_id == request_id]
        return any([await self.drop(dead_letter) for dead_letter in found])

    async def expire(self, max_age_s: float) -> tuple[int, int]:
        """Delete what was given up longer ago, by Redis's clock: how many dead letters, and how many dead webhooks."""
        of = self._partition
        images, webhooks = await self._expire([of.dead_letters, of.dead_webhooks], [int(max_age_s * 1000)])
        return images, webhooks


class AllDeadLetters:
    """The dead letters of several partitions, such as all of a model."""

    def __init__(self, connections: Connections, partitions: Iterable[Partition]) -> None:
        self._parts = {one: DeadLetters(connections.client_for(one), one) for one in partitions}

    async def all(self) -> list[DeadLetter]:
        """All dead letters, the oldest first, without their pixels."""
        found = [dead_letter for part in self._parts.values() for dead_letter in await part.all()]
        return sorted(found, key=lambda dead_letter: -dead_letter.age_s)

    def in_partition_of(self, dead_letter: DeadLetter) -> DeadLetters:
        """The dead letters of the partition that this one is in."""
        return self._parts[dead_letter.partition]


def newest(dead_letters: Sequence[DeadLetter], reference: str) -> DeadLetter | None:
    """The last of these letters that has this id, or whose request has it."""
    return next(
        (
            dead_letter
            for dead_letter in reversed(dead_letters)
            if reference in (dead_letter.id, dead_letter.request_id)
        ),
        None,
    )


def _decode(
    partition: Partition, now_ms: int, dead_letter_id: bytes, flat: list[bytes], pixels: int | None
) -> DeadLetter:
    # An entry that could not be read may hold anything, even bytes or a field named `reason` of its own.
    words = [word.decode(errors="backslashreplace") for word in flat]
    added, own = words[: 2 * len(_OWN_FIELDS)], words[2 * len(_OWN_FIELDS) :]
    reason, deliveries, holders, entry_id = _UNREADABLE, "0", "", ""
    if is_readable := tuple(added[::2]) == _OWN_FIELDS and _COUNT.fullmatch(added[3]) is not None:
        reason, deliveries, holders, entry_id = added[1::2]
    else:
        own = words
    return DeadLetter(
        id=dead_letter_id.decode(),
        age_s=age_s(now_ms, dead_letter_id.decode()),
        reason=reason,
        deliveries=int(deliveries),
        holders=tuple(holders.split()),
        entry_id=entry_id,
        entry=dict(zip(own[::2], own[1::2], strict=True)),
        pixels=pixels or 0,
        partition=partition,
        is_readable=is_readable,
    )
