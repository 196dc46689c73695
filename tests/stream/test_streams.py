"""Several streams in one partition: a class each, and one for each version that is wanted by name."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

import stream.group
from results.completion import Completed, Completion
from results.dead_letters import DeadLetters
from results.outcome import UNANSWERED, VANISHED, Failed
from results.store import Store
from stream.admission import Admission, QueueFull
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Delivery, Group
from stream.keys import GROUP, EntryStream, Partition, split_name
from stream.model import ModelDescription, Resize
from stream.presence import Presence
from tests.stream.test_group import entry, report
from tests.support.redis.inline import inline
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

LEASE_S = 0.2


class World:
    """One partition, into which entries go stream by stream."""

    def __init__(self, client: Redis, reader: Reader, partition: Partition) -> None:
        self.client = client
        self.reader = reader
        self.partition = partition
        self.admission = Admission(client, partition, result_ttl_s=60)
        self.store = Store(client, partition)
        self.presence = Presence(client, partition)
        self.completion = Completion(client, partition, consumer="anna", result_ttl_s=60, max_dead_letters=9)

    def group(self, name: str = "anna", version: str = "1", lease_s: float = LEASE_S) -> Group:
        return Group(self.client, self.reader, self.partition, consumer=name, lease_s=lease_s, version=version)

    async def admit(self, *streams: EntryStream, most: int = 100, timeout_s: float = 60) -> list[str]:
        """One entry for each of these streams; returns their requests' ids."""
        sent = [entry() for _ in streams]
        for one, into in zip(sent, streams, strict=True):
            await self.admission.admit(one, timeout_s=timeout_s, max_backlog=most, stream=into)
        return [one.id for one in sent]

    def failed(self, found: Iterable[Delivery], dead_letter: str = "") -> list[Completed]:
        return [
            Completed(one.entry_id, Failed(request_of(one), "dead_letter", "why"), "", dead_letter) for one in found
        ]


def request_of(delivery: Delivery) -> str:
    assert isinstance(delivery.entry, Entry)
    return delivery.entry.id


@pytest.fixture
async def world(client: Redis, reader: Reader, partition: Partition) -> World:
    world = World(client, reader, partition)
    await world.presence.heartbeat(report("somebody"), lease_s=60)
    await world.group().create()
    return world


def test_an_entry_s_name_names_its_stream() -> None:
    """Also where the name was read from Redis and is none: then it is an entry from before there were classes."""
    of = Partition("m", 3)
    assert [one.key.rpartition("entries")[2] for one in of.streams("2")] == [":v2", "", ":bulk:v2", ":bulk"]
    assert [one.key for one in of.streams()] == [of.entries, of.stream("bulk").key]
    for stream_ in (*of.streams("2", "10"), *of.streams()):
        name = f"{stream_.prefix}17-3"
        assert of.stream_of(name) == stream_
        assert split_name(name) == (stream_.prefix, "17-3")
    for junk in ("", "17-0", "entries:17-0", "bulk", "vv:1-0", "v:1-0", f"v{'9' * 19}:1-0", "v1}:{x:1-0", "é"):
        assert of.stream_of(junk) == of.stream()


async def test_a_consumer_reads_what_is_for_all_and_what_is_for_its_version(world: World) -> None:
    """The most urgent first, and within a class what nobody else may read."""
    of = world.partition
    sent = await world.admit(of.stream("bulk"), of.stream(), of.stream("bulk", "1"), of.stream("interactive", "1"))
    others = await world.admit(of.stream("interactive", "2"), of.stream("bulk", "2"))
    found = await world.group().read(9)
    assert [request_of(one) for one in found] == [sent[3], sent[1], sent[2], sent[0]]
    assert [one.priority for one in found] == ["interactive", "interactive", "bulk", "bulk"]
    second = world.group("bert", "2")
    await second.create()
    assert [request_of(one) for one in await second.read(9)] == others
    assert all(await world.completion.complete(world.failed(found))), "entries of four streams at once"
    assert [await world.client.xlen(one.key) for one in of.streams("1")] == [0] * 4


@pytest.mark.parametrize("which", range(4))
async def test_a_waiting_read_wakes_for_each_stream(world: World, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: nothing else ends this read within the time that the test has."""
    monkeypatch.setattr(stream.group, "BLOCK_S", 600.0)
    world.reader._connection.socket_timeout = 60.0
    reading = asyncio.create_task(world.group().read(9))
    group = world.partition.streams("1")[which]

    async def waits() -> bool:
        clients: Any = await world.client.client_list()
        return any(one["cmd"] == "xreadgroup" and "b" in one["flags"] for one in clients)

    await eventually(waits, "the read waits")
    (sent,) = await world.admit(group)
    async with asyncio.timeout(PATIENCE_S):
        (found,) = await reading
    assert request_of(found) == sent


async def test_each_class_is_bounded_by_itself(world: World) -> None:
    """A folder that fills its queue refuses nobody's single image."""
    of = world.partition
    await world.admit(of.stream("bulk"), of.stream("bulk"))
    with pytest.raises(QueueFull):
        await world.admit(of.stream("bulk"), most=2)
    await world.admit(of.stream(), of.stream(), most=2)
    with pytest.raises(QueueFull):
        await world.admit(of.stream(), most=2)
    assert await world.client.smembers(of.wanted_versions) == set()


async def test_entries_with_equal_ids_are_kept_apart(world: World) -> None:
    """Each stream counts its own ids, and two of them may give the same one at the same time."""
    of = world.partition
    fields = inline(entry())
    for one in (of.stream(), of.stream("bulk")):
        await world.client.xadd(one.key, fields, id="17-0")
    group = world.group()
    held = [one.entry_id for one in await group.read(9)]
    assert held == ["17-0", "bulk:17-0"]
    assert await group.renew(held) == []
    await world.client.xack(of.entries, GROUP, "17-0")
    assert await group.renew(held) == ["17-0"]
    assert [one.entry_id for one in await group.read_pending(9, "bulk:0")] == ["bulk:17-0"]
    assert await group.read_pending(9) == []


async def test_what_a_dead_consumer_held_is_claimed_from_all_streams_the_urgent_first(world: World) -> None:
    """And what is handed back is there for others at once: what had run one by one, the rest a stream at a time."""
    of, dead, living = world.partition, world.group("dead"), world.group("living")
    sent = await world.admit(*reversed(of.streams("1")), of.stream("bulk", "1"))
    held = await dead.read(9)
    names = [one.entry_id for one in held]
    assert await dead.hand_back(counted=names[:1], uncounted=names[1:]) == 5
    returned = [await living.take_back(9) for _ in range(4)]
    assert [[one.entry_id for one in found] for found in returned] == [names[1:2], names[2:4], names[4:], []]
    claimed = await living.claim()
    assert claimed
    assert await living.claim() is None
    found = [claimed, *(one for several in returned for one in several)]
    assert {request_of(one) for one in found} == set(sent)
    assert [(one.entry_id, one.priority) for one in found] == [(one.entry_id, one.priority) for one in held]
    assert [(one.deliveries, one.holders) for one in found] == [(2, ("dead",)), *[(1, ())] * 4]
    assert all(await world.completion.complete(world.failed(found)))
    assert await world.client.hgetall(of.holders) == {}


async def test_only_what_is_handed_back_uncounted_is_taken_back(world: World) -> None:
    """At most as many as fit, and not what its consumer holds or has died with."""
    await world.admit(*[world.partition.stream()] * 4)
    dead, living = world.group("dead", lease_s=0.001), world.group("living", lease_s=0.001)
    held = [one.entry_id for one in await dead.read(9)]
    assert await living.take_back(9) == []
    assert await dead.hand_back(counted=held[:1], uncounted=held[1:3]) == 3
    assert [one.entry_id for one in await living.take_back(1)] == held[1:2]
    assert [one.entry_id for one in await living.take_back(9)] == held[2:3]
    assert await living.take_back(9) == []


async def test_a_consumer_is_removed_and_leaves_only_where_it_holds_nothing_at_all(world: World) -> None:
    """In every stream: what it holds in one would be thrown away."""
    of, dead = world.partition, world.group("dead")
    await world.admit(of.stream("bulk"))
    (held,) = await dead.read(9)
    assert await world.group().remove_dead_consumers() == 0
    assert await world.presence.leave("dead", dead.streams) == 1
    assert all(await world.completion.complete(world.failed([held])))
    # A version that it served, and that nobody serves any more.
    await dead.follow("7")
    await dead.read(9, wait=False)
    await world.presence.announce(ModelDescription(of.model, "7", "digest", 4, 4, Resize(), ("a",)))
    assert await world.group().remove_dead_consumers() == 1
    for one in of.streams("1", "7"):
        assert await world.client.xinfo_consumers(one.key, GROUP) == []


async def test_a_consumer_leaves_the_streams_of_an_earlier_version_too(world: World) -> None:
    """Else each change of the version would leave its name in Redis for good."""
    of, changing = world.partition, world.group("changing")
    await changing.read(1, wait=False)
    await changing.follow("2")
    await changing.read(1, wait=False)
    assert await world.presence.leave("changing", changing.joined.values()) == 0
    for one in of.streams("1", "2"):
        assert await world.client.xinfo_consumers(one.key, GROUP) == []


@pytest.mark.parametrize("which", range(4))
async def test_a_dead_letter_returns_to_the_stream_it_came_from(world: World, which: int) -> None:
    """Replayed it is what it was: as urgent, and for the same version."""
    of = world.partition.streams("1")[which]
    (request,) = await world.admit(of)
    assert all(await world.completion.complete(world.failed(await world.group().read(9), "poison")))
    dead_letters = DeadLetters(world.client, world.partition)
    (dead_letter,) = await dead_letters.all()
    assert await dead_letters.replay(dead_letter, request_ttl_s=60)
    assert await world.store.state(request) == "queued"
    (again,) = await world.group().read(9)
    assert (again.entry_id.startswith(of.prefix), request_of(again)) == (True, request)
    assert again.priority == of.priority


@pytest.mark.parametrize("which", range(4))
async def test_a_request_has_vanished_only_when_its_own_stream_has_lost_it(world: World, which: int) -> None:
    """After its deadline: an entry that a living consumer holds may be answered. All others have expired."""
    of = world.partition.streams("1")[which]
    (request,) = await world.admit(of, timeout_s=0.001)

    async def is_over() -> bool:
        found: Any = await world.client.xrange(of.key)
        seconds, microseconds = await world.client.time()
        return bool(int(found[0][1][b"due"]) < seconds * 1000 + microseconds // 1000)

    await eventually(is_over, "the deadline has passed")
    assert await world.store.state(request) == Failed(request, "expired", UNANSWERED)
    group = world.group("other", "1")
    await group.create()
    assert await world.store.state(request) == Failed(request, "expired", UNANSWERED)
    assert await world.client.hget(world.partition.counters, "vanished") is None
    assert len(await group.read(1, wait=False)) == 1
    assert await world.store.state(request) == Failed(request, "expired", UNANSWERED)
    for until_ms, state in ((0, Failed(request, "expired", UNANSWERED)), (2**50, "queued")):
        await world.client.zadd(world.partition.alive, {"other": until_ms})
        assert await world.store.state(request) == state
    await world.client.delete(of.key)
    assert await world.store.state(request) == Failed(request, "expired", VANISHED)
    assert await world.client.hget(world.partition.counters, "vanished") == b"1"


async def test_streams_of_a_version_without_consumers_are_read_by_others(world: World) -> None:
    """Nothing that was accepted may stay there, whether it was delivered already or not."""
    of = world.partition
    second, first = world.group("second", "2"), world.group("first", "1")
    await second.create()
    sent = await world.admit(of.stream("interactive", "2"), of.stream("bulk", "2"))
    (delivered,) = [one for one in await second.read(1) if one.priority == "interactive"]
    heartbeat = await world.presence.heartbeat(report("first"), lease_s=60)
    assert heartbeat.waiting_versions == {"2"}
    await first.follow("1", "2")
    claimed: list[Delivery] = []

    async def claims() -> bool:
        claimed.extend(one for one in [await first.claim()] if one)
        return len(claimed) == 2

    await eventually(claims, "both are claimed")
    assert [request_of(one) for one in claimed] == sent
    assert (claimed[0].entry_id, claimed[0].deliveries) == (delivered.entry_id, 2)
    later = await world.admit(of.stream("bulk", "2"), of.stream("bulk"))
    assert [request_of(one) for one in await first.read(9)] == later
    await first.follow("1")
    await world.admit(of.stream("bulk", "2"))
    assert await first.read(9, wait=False) == []
