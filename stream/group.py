"""The consumer group's commands: read, renew, claim. Callers see deliveries, never a reply of Redis.

What a group read changes, in order:
1. the group's last-delivered id moves past the entries, so that nobody else reads them;
2. each enters the pending entries list under the reading consumer, with delivery count 1 and idle time 0;
3. only completion (XACK) takes it out again. A reply that gets lost on the way leaves it there, unread:
   `read_pending` finds it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.connection.clients import BLOCK_S
from stream.connection.group_reader import Reader
from stream.entry import Entry, MalformedEntry
from stream.keys import GROUP, Partition
from stream.scripts import load

#: No consumer's lease is longer: 24 hours, the largest value of the setting.
_LONGEST_LEASE_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry in this consumer's hands.

    `deliveries` counts this one; `holders` names the consumers that lost it before. `entry` is the
    error itself where the fields could not be read.
    """

    entry_id: str
    entry: Entry | MalformedEntry
    deliveries: int = 1
    holders: tuple[str, ...] = ()

    @property
    def accepted_ms(self) -> int:
        """When the entry was accepted, Unix milliseconds by Redis's clock: the first half of its id."""
        return int(self.entry_id.partition("-")[0])


class Group:
    """One consumer's view of one partition's group.

    `reader` makes the blocking reads; `redis` runs the short commands.
    """

    def __init__(self, redis: Redis, reader: Reader, partition: Partition, *, consumer: str, lease_s: float) -> None:
        self._redis = redis
        self._reader = reader
        self._partition = partition
        self.consumer = consumer
        self._lease_ms = int(lease_s * 1000)
        self._claim = load(redis, "stream.scripts", "claim")
        self._read_pending = load(redis, "stream.scripts", "read_pending")
        self._renew = load(redis, "stream.scripts", "renew")
        self._hand_back = load(redis, "stream.scripts", "hand_back")
        self._remove_dead_consumers = load(redis, "stream.scripts", "remove_dead_consumers")

    async def create(self) -> None:
        """Make the group, from the stream's beginning, unless it exists: nothing accepted before may be skipped."""
        try:
            await self._redis.xgroup_create(self._partition.entries, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read(self, count: int, rows: Sequence[memoryview] = (), *, wait: bool = True) -> list[Delivery]:
        """Up to `count` new entries; may wait up to `BLOCK_S` for the first, and returns none where none came.

        Pixels of the i-th that have the size of row i are read into it, and stay there.
        """
        of = ("GROUP", GROUP, self.consumer)
        bounds = ("COUNT", count, *(("BLOCK", int(BLOCK_S * 1000)) if wait else ()))
        found = await self._reader.entries(["XREADGROUP", *of, *bounds, "STREAMS", self._partition.entries, ">"], rows)
        return [_delivery(raw.entry_id, raw.fields, raw.pixels) for raw in found]

    async def read_pending(self, count: int, after: str = "0") -> list[Delivery]:
        """Entries that Redis holds for this consumer already, behind `after`, whether or not they ever arrived.

        Their leases begin again, and no delivery is counted. They count as redelivered here: nobody knows how far
        they had come.
        """
        entries: Any = await self._read_pending([self._partition.entries], [GROUP, self.consumer, count, after])
        found = [_delivery(entry_id, _fields(flat or [])) for entry_id, flat in entries]
        return [Delivery(one.entry_id, one.entry, deliveries=2) for one in found]

    async def renew(self, entry_ids: Iterable[str]) -> list[str]:
        """Renew the leases of held entries; returns those that are held no longer."""
        lost: list[bytes] = await self._renew([self._partition.entries], [GROUP, self.consumer, *entry_ids])
        return [entry_id.decode() for entry_id in lost]

    async def hand_back(self, *, counted: Collection[str], uncounted: Collection[str]) -> int:
        """Let others claim these entries at once; returns how many were still held.

        The delivery of the `uncounted` ones does not count: this consumer never ran them.
        """
        arguments: list[str | int] = [GROUP, self.consumer, _LONGEST_LEASE_MS, len(counted), *counted, *uncounted]
        return int(await self._hand_back([self._partition.entries], arguments))

    async def claim(self) -> Delivery | None:
        """Take over one entry whose consumer has been silent for a lease, or None where there is none."""
        reply = await self._claim(
            [self._partition.entries, self._partition.holders], [GROUP, self.consumer, self._lease_ms]
        )
        if len(reply) == 1:
            return None
        _, entry_id, flat, deliveries, holders = reply
        found = _delivery(entry_id, _fields(flat))
        return Delivery(found.entry_id, found.entry, deliveries, tuple(holders.decode(errors="replace").split()))

    async def remove_dead_consumers(self) -> int:
        """Remove dead consumers that hold nothing from the group; returns how many."""
        return int(await self._remove_dead_consumers([self._partition.entries, self._partition.alive], [GROUP]))


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    """A script's reply: name, value, name, value..."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _delivery(entry_id: bytes, fields: dict[bytes, bytes], pixels: memoryview | None = None) -> Delivery:
    entry: Entry | MalformedEntry
    try:
        entry = Entry.decode(fields, pixels)
    except MalformedEntry as error:
        entry = error
    return Delivery(entry_id.decode(), entry)
