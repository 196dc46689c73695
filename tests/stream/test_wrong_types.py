"""What Redis holds is of another kind. Scripts check every key before they change one, and readers refuse the value."""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from results.completion import Completed, Completion
from results.dead_letters import DeadLetters
from results.outcome import Failed
from results.store import Store
from stream import unreadable
from stream.admission import Admission
from stream.connection.clients import is_temporary
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Group
from stream.keys import LOADS, Partition
from stream.load_requests import LoadRequest, LoadRequests
from stream.presence import Presence
from stream.scripts import load
from stream.unreadable import parse_json
from tests.stream.test_group import entry, report
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

_LEASE_S = 0.05


@dataclass
class World:
    """One partition in which each script has something to do."""

    client: Redis
    reader: Reader
    partition: Partition

    def __post_init__(self) -> None:
        self.first = entry(reply="ingest-1")
        self.dead = entry(reply="ingest-1")
        self.group = self._group("anna")
        self.presence = Presence(self.client, self.partition)
        self.store = Store(self.client, self.partition)
        self.dead_letters = DeadLetters(self.client, self.partition)

    def _group(self, consumer: str) -> Group:
        return Group(self.client, self.reader, self.partition, consumer=consumer, lease_s=_LEASE_S)

    async def prepare(self) -> None:
        await self.presence.heartbeat(report("anna"), lease_s=60)
        await self.group.create()
        await self.admit(self.dead)
        await self.complete(dead_letter_reason="poison")
        await self.admit(self.first)
        (self.delivery,) = await self.group.read(1)
        (self.dead_letter,) = await self.dead_letters.all()
        await self.store.subscribe(self.first.id, "ingest-2")

    async def admit(self, one: Entry) -> None:
        await Admission(self.client, self.partition, result_ttl_s=60).admit(one, timeout_s=60, max_backlog=9)

    async def complete(self, dead_letter_reason: str = "") -> list[bool]:
        completion = Completion(self.client, self.partition, consumer="anna", result_ttl_s=60, max_dead_letters=3)
        delivery = self.delivery if not dead_letter_reason else (await self.group.read(1))[0]
        assert isinstance(delivery.entry, Entry)
        outcome = Failed(delivery.entry.id, "dead_letter", "why")
        ended = Completed(delivery.entry_id, outcome, "ingest-1", dead_letter_reason, deliveries=3)
        return await completion.complete([ended])

    async def claim(self) -> None:
        async def lapsed() -> bool:
            found: Any = await self.client.xpending_range(self.partition.entries, "consumers", "-", "+", 1)
            return bool(found[0]["time_since_delivered"] > _LEASE_S * 1000)

        if await self.client.type(self.partition.entries) == b"stream":
            await eventually(lapsed, "the lease has ended")
        await self._group("bert").claim()

    async def contents(self) -> dict[bytes, bytes]:
        """Every key with its value; pending entries are part of a stream's, without the time that passes."""
        found = {}
        for key in [key async for key in self.client.scan_iter("sluice:*")]:
            match await self.client.type(key):
                case b"stream":
                    read: Any = await self.client.xrange(key)
                    groups: Any = await self.client.xinfo_groups(key)
                    held: Any = await self.client.xpending_range(key, "consumers", "-", "+", 9) if groups else []
                    found[key] = repr((read, [(one["message_id"], one["consumer"]) for one in held])).encode()
                case b"hash":
                    found[key] = repr(await self.client.hgetall(key)).encode()
                case b"zset":
                    found[key] = repr(await self.client.zrange(key, 0, -1)).encode()
                case _:
                    found[key] = repr(await self.client.get(key)).encode()
        return found


@pytest.fixture
async def world(client: Redis, reader: Reader, partition: Partition) -> World:
    world = World(client, reader, partition)
    await world.prepare()
    return world


#: The keys of a partition besides its entries, in the order of forget.lua.
_OF_MODEL = (
    *("alive", "dead_letters", "dead_webhooks", "webhooks", "wanted_versions"),
    *("consumers", "versions", "counters", "holders"),
)

#: What runs each script, and the keys that it uses.
_SCRIPTS: dict[str, tuple[Callable[[World], Awaitable[Any]], tuple[str, ...]]] = {
    "forget": (
        lambda world: load(world.client, "stream.scripts", "forget")(
            [*(getattr(world.partition, key) for key in _OF_MODEL), world.partition.entries], ["forget", 0]
        ),
        ("alive", "dead_letters", "consumers", "versions", "counters", "holders", "entries"),
    ),
    "admit": (lambda world: world.admit(entry()), ("entries", "alive")),
    "claim": (lambda world: world.claim(), ("entries", "holders")),
    "complete": (lambda world: world.complete(), ("entries", "holders", "dead_letters", "counters")),
    "heartbeat": (
        lambda world: world.presence.heartbeat(report("bert"), lease_s=60),
        ("alive", "consumers", "versions", "entries"),
    ),
    "leave": (lambda world: world.presence.leave("anna"), ("entries", "alive", "consumers")),
    "read_pending": (lambda world: world.group.read_pending(9), ("entries",)),
    "remove_dead_consumers": (lambda world: world.group.remove_dead_consumers(), ("entries", "versions")),
    "recover_orphans": (lambda world: world.group.recover_orphans(), ("entries",)),
    "renew": (lambda world: world.group.renew([world.delivery.entry_id]), ("entries",)),
    "take_back": (lambda world: world.group.take_back(9), ("entries",)),
    "replay": (
        lambda world: world.dead_letters.replay(world.dead_letter, request_ttl_s=60),
        ("entries", "dead_letters", "counters"),
    ),
}


@pytest.mark.parametrize(("script", "key"), [(name, key) for name, (_, keys) in _SCRIPTS.items() for key in keys])
async def test_a_key_of_another_type_changes_nothing_else(script: str, key: str, world: World) -> None:
    """The script is refused with an error that passes once somebody deletes the key; no other key has changed."""
    run, _ = _SCRIPTS[script]
    name = getattr(world.partition, key)
    await world.client.delete(name)
    await world.client.set(name, "somebody else's", ex=60)
    before = await world.contents()
    with pytest.raises(ResponseError) as refused:
        await run(world)
    assert is_temporary(refused.value)
    assert await world.contents() == before


async def test_a_request_of_another_type_gets_its_outcome(world: World) -> None:
    """What is under a request's key gives way to the outcome, which is announced."""
    name = world.partition.request(world.first.id)
    await world.client.delete(name)
    await world.client.hset(name, "a", "b")
    assert await world.store.state(world.first.id) == "unknown"
    assert not await world.store.cancel(world.first.id)
    assert await world.complete() == [True]
    assert await world.store.state(world.first.id) == Failed(world.first.id, "dead_letter", "why")


@pytest.mark.parametrize("value", ["a string", None])
async def test_a_reply_stream_that_takes_nothing_is_made_again(world: World, value: str | None) -> None:
    """Another type, or a stream whose last id is used up: the outcome is announced, and to those who subscribed."""
    for ingest in ("ingest-1", "ingest-2"):
        name = world.partition.replies(ingest)
        await world.client.delete(name)
        if value is None:
            last = "18446744073709551615-18446744073709551615"
            await world.client.xadd(name, {"1": "garbage"}, id=last)
        else:
            await world.client.set(name, value)
    assert await world.complete() == [True]
    for ingest in ("ingest-1", "ingest-2"):
        announced: Any = await world.client.xrange(world.partition.replies(ingest))
        assert len(announced) == 1
        assert world.first.id.encode() in announced[0][1][b"1"]


async def test_counters_that_are_no_numbers_begin_again(world: World) -> None:
    """A completion is counted, and is not undone by what was there."""
    await world.client.hset(world.partition.counters, mapping={"completed": "many", "dead_letter": "1e3"})
    assert await world.complete() == [True]
    found: Any = await world.client.hgetall(world.partition.counters)
    assert (found[b"completed"], found[b"dead_letter"]) == (b"1", b"1")


async def test_a_lost_image_is_counted_once_and_keeps_its_outcome(world: World) -> None:
    """In one step, so that no crash comes between. Counters that are none count nothing, and hold up nothing."""
    lost = await world.store.report_vanished("lost-1", ttl_s=60)
    assert await world.store.report_vanished("lost-1", ttl_s=60) == await world.store.state("lost-1") == lost
    assert await world.client.hget(world.partition.counters, "vanished") == b"1"
    await world.client.hset(world.partition.counters, "vanished", "many")
    assert await world.store.report_vanished("lost-2", ttl_s=60) == await world.store.state("lost-2")
    await world.client.delete(world.partition.counters)
    await world.client.set(world.partition.counters, "no hash")
    assert await world.store.report_vanished("lost-3", ttl_s=60) == await world.store.state("lost-3")


async def test_dead_letters_that_take_nothing_refuse_the_completion(world: World) -> None:
    """Nothing is acknowledged, so nothing is lost: it is completed once somebody deletes the stream."""
    name = world.partition.dead_letters
    await world.client.delete(name)
    await world.client.xadd(name, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    before = await world.contents()
    with pytest.raises(ResponseError, match="takes no more entries"):
        await world.complete()
    assert await world.contents() == before
    await world.client.delete(name)
    assert await world.complete() == [True]


async def test_a_full_server_damages_no_value(
    client: Redis, partition: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    """What it refuses is not logged as unreadable, as a key of another type is."""
    await client.set(partition.alive, "no hash")
    with pytest.raises(ResponseError) as wrong:
        await client.hget(partition.alive, "field")
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError) as full:
            await client.hset(partition.consumers, "field", "1")
    finally:
        await client.config_set("maxmemory", 0)
    for error in (full.value, wrong.value):
        unreadable.skip("hash", partition.alive, error)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(f"skipped a value in Redis that is no hash: key={partition.alive}: WRONGTYPE")


@pytest.mark.parametrize(
    "value", ["[0, -1, 999999999999999999]", '["\\ud83d\\ude00", "é", "\\u0000"]', "[1.5, 1e300, null]"]
)
def test_what_a_program_writes_is_read(value: str) -> None:
    """As text and as bytes."""
    assert parse_json(value.encode()) == parse_json(value) == json.loads(value)


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff", b"{", b"1" + b"0" * 400, b"-1" + b"0" * 18, b"[1e999]", b'{"a": -1e999}', b"NaN", b"[-Infinity]",
     rb'{"a": ["\ud800"]}', rb'{"\udfff": 1}', b"[" * 100_000, b'"\xed\xa0\x80"', '"é"'.encode("utf-16")],
)  # fmt: skip
def test_what_would_fail_later_is_refused(value: bytes) -> None:
    """Numbers that overflow, text that no encoder takes, and what is nested too deeply."""
    with pytest.raises(ValueError):
        parse_json(value)


@pytest.mark.parametrize("value", [None, "x", "9" * 18, str(2**63 - 1), "-5", "1.5"])
async def test_a_request_to_load_is_newer_than_all_before(client: Redis, value: str | None) -> None:
    """Also if Redis lost the number, or it is garbage. Consumers would never see the request otherwise."""
    requests = LoadRequests(client)
    before = await requests.load("tiny")
    await requests.unload("tiny")
    if value is None:
        await client.hdel(LOADS, "tiny:number")
    else:
        await client.hset(LOADS, "tiny:number", value)
    number = await requests.load("tiny")
    assert number > before
    assert await requests.newest("tiny") == LoadRequest(number)
    assert await requests.load("tiny") > number
