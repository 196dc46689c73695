"""The consumer group's commands: read, renew, claim. Callers see deliveries, never a reply of Redis.

What a group read changes, in order:
1. the group's last-delivered id moves past the entries, so that nobody else reads them;
2. each enters the pending entries list under the reading consumer, with delivery count 1 and idle time 0;
3. only completion (XACK) takes it out again. A reply that gets lost on the way leaves it there, unread:
   `read_pending` finds it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.connection.clients import BLOCK_S
from stream.connection.group_reader import Fields, Reader, fields_of, lacks_pixels, request_id_of
from stream.entry import Entry, MalformedEntry
from stream.keys import GROUP, PRIORITIES, EntryStream, Partition, Priority, added_ms, split_name
from stream.scripts import load

#: How many of a stream's oldest entries `recover_orphans` looks at. The others among them are pending, and leave soon.
_ORPHANS = 64

#: No consumer's lease is longer: 24 hours, the largest value of the setting.
_LONGEST_LEASE_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry in this consumer's hands. `entry_id` is its name: the id in its stream, behind the stream's prefix.

    `deliveries` counts this one; `holders` names the consumers that lost it before. `entry` is the
    error itself where the fields could not be read.
    """

    entry_id: str
    entry: Entry | MalformedEntry
    deliveries: int = 1
    holders: tuple[str, ...] = ()
    priority: Priority = "interactive"

    @property
    def accepted_ms(self) -> int:
        """When the entry was accepted, Unix milliseconds by Redis's clock."""
        return added_ms(split_name(self.entry_id)[1])


class Group:
    """One consumer's view of the groups of one partition's streams.

    At first the consumer reads the streams for any version, and those for its own `version`; see `follow`.
    `reader` makes the blocking reads; `redis` runs the short commands.
    """

    def __init__(
        self,
        redis: Redis,
        reader: Reader,
        partition: Partition,
        *,
        consumer: str,
        lease_s: float,
        version: str = "",
    ) -> None:
        self._redis = redis
        self._reader = reader
        self._partition = partition
        self.consumer = consumer
        self._lease_ms = int(lease_s * 1000)
        self._claim = load(redis, "stream.scripts", "claim")
        self._read_pending = load(redis, "stream.scripts", "read_pending")
        self._renew = load(redis, "stream.scripts", "renew")
        self._hand_back = load(redis, "stream.scripts", "hand_back")
        self._take_back = load(redis, "stream.scripts", "take_back")
        self._remove_dead_consumers = load(redis, "stream.scripts", "remove_dead_consumers")
        self._recover_orphans = load(redis, "stream.scripts", "recover_orphans")
        #: All streams that it has read so far: their groups know this consumer.
        self.joined: dict[str, EntryStream] = {}
        self._read_streams(partition.streams(*((version,) if version else ())))

    def _read_streams(self, streams: tuple[EntryStream, ...]) -> None:
        self.streams = streams
        self.joined |= {stream.key: stream for stream in streams}
        #: How a read of each class, and of all classes, ends.
        self._tails: Mapping[Priority | None, list[str]] = {
            priority: _tail(stream.key for stream in streams if priority in {None, stream.priority})
            for priority in (*PRIORITIES, None)
        }

    async def create(self) -> bool:
        """Make each stream's group unless it exists. Whether any was made."""
        return any([await create_group(self._redis, stream.key, GROUP) for stream in self.streams])

    async def follow(self, *versions: str, any_version: bool = True) -> None:
        """From the next read on, read the streams for these versions, and those for any version if asked for.

        The versions are the consumer's own, which may have changed, and those that no living consumer serves:
        nobody else would read what waits there.
        """
        streams = self._partition.streams(*versions, any_version=any_version)
        if streams != self.streams:
            for stream in streams:
                await create_group(self._redis, stream.key, GROUP)
            self._read_streams(streams)

    async def read(
        self,
        count: int,
        rows: Sequence[memoryview] = (),
        *,
        wait: bool = True,
        priority: Priority | None = None,
    ) -> list[Delivery]:
        """Up to `count` new entries of each stream, or of those of one class, the most urgent stream first.

        May wait up to `BLOCK_S` for the first, and returns none where none came. Pixels of the i-th that have the size
        of row i are read into it, and stay there.
        """
        of = ("GROUP", GROUP, self.consumer)
        bounds = ("COUNT", count, *(("BLOCK", int(BLOCK_S * 1000)) if wait else ()))
        words = ["XREADGROUP", *of, *bounds, *self._tails[priority]]
        found = await self._reader.entries(words, rows, self._partition.pixels)
        return [_delivery(self.joined[raw.stream.decode()], raw.entry_id, raw.fields, raw.value) for raw in found]

    async def read_pending(self, count: int, after: str = "0") -> list[Delivery]:
        """Entries that Redis holds for this consumer already in one stream, behind `after`, whether or not they ever
        arrived; `after` names an entry, and so the stream.

        Their leases begin again, and no delivery is counted. They count as redelivered here: nobody knows how far
        they had come.
        """
        stream = self._partition.stream_of(after)
        arguments: list[str | int] = [GROUP, self.consumer, count, split_name(after)[1]]
        entries: Any = await self._read_pending([stream.key], arguments)
        found = await self._with_pixels(stream, [(entry_id, fields_of(flat)) for entry_id, flat in entries])
        return [replace(one, deliveries=2) for one in found]

    async def _with_pixels(self, stream: EntryStream, entries: Sequence[tuple[bytes, Fields]]) -> list[Delivery]:
        keys = [self._partition.pixels(request_id_of(fields)) for _, fields in entries if lacks_pixels(fields)]
        # With MGET, unlike GET, a value of another type is no error: the pixels are gone.
        values: Any = iter(await self._redis.mget(keys) if keys else ())
        return [
            _delivery(stream, entry_id, fields, next(values) if lacks_pixels(fields) else None)
            for entry_id, fields in entries
        ]

    async def renew(self, entry_ids: Iterable[str]) -> list[str]:
        """Renew the leases of held entries; returns those that are held no longer."""
        lost: list[str] = []
        for prefix, ids in _by_prefix(entry_ids).items():
            found: list[bytes] = await self._renew([self._key_of(ids[0], prefix)], [GROUP, self.consumer, *ids])
            lost += [prefix + entry_id.decode() for entry_id in found]
        return lost

    def _key_of(self, id_in_stream: str, prefix: str) -> str:
        return self._partition.stream_of(prefix + id_in_stream).key

    async def hand_back(self, *, counted: Collection[str], uncounted: Collection[str]) -> int:
        """Let others have these entries at once; returns how many were still held.

        The `uncounted` ones were never run, or are not at fault: their delivery does not count. Others find them with
        `take_back`, and the `counted` ones with `claim`.
        """
        first, others = _by_prefix(counted), _by_prefix(uncounted)
        returned = 0
        for prefix in {**first, **others}:
            ids = [*first[prefix], *others[prefix]]
            arguments: list[str | int] = [GROUP, self.consumer, _LONGEST_LEASE_MS, len(first[prefix]), *ids]
            returned += int(await self._hand_back([self._key_of(ids[0], prefix)], arguments))
        return returned

    async def take_back(self, most: int) -> list[Delivery]:
        """Take over entries of one stream that others have handed back uncounted, the most urgent first."""
        streams = self.streams
        reply = await self._take_back([one.key for one in streams], [GROUP, self.consumer, self._lease_ms, most])
        if not reply:
            return []
        number, entries = reply
        found = [(entry_id, fields_of(flat)) for entry_id, flat in entries]
        return await self._with_pixels(streams[number - 1], found)

    async def claim(self) -> Delivery | None:
        """Take over one entry whose consumer has been silent for a lease, or None where there is none."""
        keys = [self._partition.holders, *(stream.key for stream in self.streams)]
        prefixes = [stream.prefix for stream in self.streams]
        reply = await self._claim(keys, [GROUP, self.consumer, self._lease_ms, *prefixes])
        if len(reply) == 1:
            return None
        _, name, flat, deliveries, holders = reply
        stream = self._partition.stream_of(name.decode())
        entry_id = name.removeprefix(stream.prefix.encode())
        (found,) = await self._with_pixels(stream, [(entry_id, fields_of(flat))])
        return replace(found, deliveries=deliveries, holders=tuple(holders.decode(errors="replace").split()))

    async def remove_dead_consumers(self) -> int:
        """Remove dead consumers that hold nothing from the groups of all streams; returns how many."""
        keys = [self._partition.alive, self._partition.versions, self._partition.entries]
        return int(await self._remove_dead_consumers(keys, [GROUP]))

    async def recover_orphans(self) -> int:
        """Let `take_back` find entries that were delivered and are pending for no consumer; returns how many.

        A damaged append-only file leaves such entries: no other command would ever deliver them.
        """
        arguments: list[str | int] = [GROUP, self.consumer, _LONGEST_LEASE_MS, _ORPHANS]
        return int(await self._recover_orphans([stream.key for stream in self.streams], arguments))


async def create_group(redis: Redis, stream: str, group: str) -> bool:
    """Make a group, from the stream's beginning, unless it exists: nothing accepted may be skipped.

    Whether it was made.
    """
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
        return False
    return True


def _tail(keys: Iterable[str]) -> list[str]:
    named = list(keys)
    return ["STREAMS", *named, *(">" * len(named))]


def _by_prefix(entry_ids: Iterable[str]) -> defaultdict[str, list[str]]:
    """The ids that entries have in their streams, by the prefix of the stream."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for entry_id in entry_ids:
        prefix, id_in_stream = split_name(entry_id)
        found[prefix].append(id_in_stream)
    return found


def _delivery(stream: EntryStream, entry_id: bytes, fields: Fields, value: bytes | memoryview | None) -> Delivery:
    entry: Entry | MalformedEntry
    try:
        entry = Entry.decode(fields, value)
    except MalformedEntry as error:
        entry = error
    return Delivery(stream.prefix + entry_id.decode(), entry, priority=stream.priority)
