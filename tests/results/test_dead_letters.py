"""Dead letters against a real server: looking at them, replaying, dropping, and doing so at the same time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from results.completion import Completed, Completion
from results.dead_letters import DeadLetter, DeadLetters, NotReplayable, newest
from results.outcome import Failed
from results.store import Store
from stream.admission import Admission, QueueFull
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.entry import CANCELLED, Entry
from stream.group import Group
from stream.keys import Partition
from stream.presence import Presence
from stream.settings import RedisSettings
from tests.stream.test_group import entry, report
from tests.support.redis.inline import inline

pytestmark = pytest.mark.anyio

TTL_S = 60.0


class Graveyard:
    """Entries end here as consumers end them: admitted, delivered, given up."""

    def __init__(self, client: Redis, reader: Reader, partition: Partition) -> None:
        self._presence = Presence(client, partition)
        self._admission = Admission(client, partition, result_ttl_s=TTL_S)
        self.group = Group(client, reader, partition, consumer="anna", lease_s=60)
        self._completion = Completion(client, partition, consumer="anna", result_ttl_s=TTL_S, max_dead_letters=100)

    async def open(self) -> None:
        await self._presence.heartbeat(report("somebody"), lease_s=60)
        await self.group.create()

    async def admit(self, one: Entry) -> None:
        """Admit it where the stream is empty; raises QueueFull where it is not."""
        await self._admission.admit(one, timeout_s=60, max_backlog=1)

    async def add(self, one: Entry, reason: str = "poison") -> None:
        await self.admit(one)
        (delivery,) = await self.group.read(1)
        outcome = Failed(one.id, "dead_letter", "why")
        await self._completion.complete([Completed(delivery.entry_id, outcome, one.reply, reason, deliveries=3)])


@pytest.fixture
async def graveyard(client: Redis, reader: Reader, partition: Partition) -> Graveyard:
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    return graveyard


@pytest.fixture
def dead_letters(client: Redis, partition: Partition) -> DeadLetters:
    return DeadLetters(client, partition)


async def test_what_is_too_old_is_deleted(
    graveyard: Graveyard, dead_letters: DeadLetters, client: Redis, partition: Partition
) -> None:
    """By Redis's clock, and nothing else; a key that is no stream is left alone."""
    seconds, _ = await client.time()
    await client.xadd(partition.dead_letters, {"px": b"old"}, id=f"{(seconds - 100) * 1000}-0")
    await graveyard.add(entry())
    assert await dead_letters.expire(200) == (0, 0)
    assert await dead_letters.expire(50) == (1, 0)
    assert len(await dead_letters.all()) == 1
    assert await dead_letters.expire(10**9) == (0, 0)
    await client.delete(partition.dead_letters)
    assert await dead_letters.expire(50) == (0, 0)
    await client.set(partition.dead_letters, "no stream")
    assert await dead_letters.expire(50) == (0, 0)


async def test_a_dead_letter_tells_all_but_its_pixels(graveyard: Graveyard, dead_letters: DeadLetters) -> None:
    """Who held it, how often and why it was given up; the pixels are counted, and read only on demand."""
    one = entry(reply="ingest-1")
    await graveyard.add(one, "it is poisonous")
    (dead_letter,) = await dead_letters.all()
    assert (dead_letter.request_id, dead_letter.reason, dead_letter.deliveries) == (one.id, "it is poisonous", 3)
    assert (dead_letter.holders, dead_letter.pixels) == (("anna",), len(one.pixels))
    assert dead_letter.entry["reply"] == "ingest-1"
    assert "px" not in dead_letter.entry
    assert 0 <= dead_letter.age_s < 30
    whole = await dead_letters.image(dead_letter)
    assert whole is not None
    assert whole.pixels == one.pixels


async def test_a_dead_letter_keeps_its_fractions(graveyard: Graveyard, dead_letters: DeadLetters) -> None:
    """They are no text, so a list leaves them out; the image and a replay have them."""
    one = entry()
    one = replace(one, fractions=bytes(len(one.pixels)))
    await graveyard.add(one)
    (dead_letter,) = await dead_letters.all()
    assert dead_letter.pixels == len(one.pixels)
    assert not {"px", "fr"} & set(dead_letter.entry)
    whole = await dead_letters.image(dead_letter)
    assert whole is not None
    assert (whole.pixels, whole.fractions) == (one.pixels, one.fractions)


async def test_all_dead_letters_are_found_however_many(graveyard: Graveyard, dead_letters: DeadLetters) -> None:
    """They are read in pages, none twice and none left out, the oldest first."""
    sent = [entry() for _ in range(53)]
    for one in sent:
        await graveyard.add(one)
    assert [dead_letter.request_id for dead_letter in await dead_letters.all()] == [one.id for one in sent]


def test_either_id_finds_a_letter_and_of_several_the_newest() -> None:
    """A request may be given up again after a replay."""
    first = DeadLetter("1-0", 9.0, "", 3, (), "0-1", {"id": "twice"}, 6, Partition("tiny"))
    again = replace(first, id="2-0")
    assert newest([first, again], "1-0") is first
    assert newest([first, again], "twice") is again
    assert newest([first, again], "never-was") is None


async def test_a_replayed_entry_is_the_very_same(
    client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """Same request, same pixels; no trace and nobody who waits; its request is queued again. DELETE reaches its pixels,
    and they expire, as those of other entries."""
    one = replace(entry(reply="ingest-1", top=3), traceparent="00-1-2-01", sent_ns=1)
    one = replace(one, fractions=one.pixels[::-1])
    await graveyard.add(one)
    (dead_letter,) = await dead_letters.all()
    assert await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    (delivery,) = await graveyard.group.read(32)
    assert isinstance(delivery.entry, Entry)
    assert replace(delivery.entry, due_ms=0) == replace(one, reply="", due_ms=0, traceparent="", sent_ns=0)
    assert delivery.entry.due_ms == delivery.accepted_ms + TTL_S * 1000
    pixels = partition.pixels(one.id)
    assert await client.get(pixels) == one.pixel_value
    assert 0 < await client.pttl(pixels) <= TTL_S * 1000
    assert delivery.deliveries == 1
    assert await Store(client, partition).state(one.id) == "queued"
    assert 0 < await client.pttl(partition.request(one.id)) <= TTL_S * 1000
    assert await dead_letters.all() == []
    assert (await client.hgetall(partition.counters))[b"replayed"] == b"1"
    assert await Store(client, partition).cancel(one.id)
    assert await client.get(pixels) == CANCELLED


async def test_replaying_again_changes_nothing(
    client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """The dead letter is gone: no second entry, and an outcome that came meanwhile stands."""
    one = entry()
    await graveyard.add(one)
    (dead_letter,) = await dead_letters.all()
    assert await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    await client.set(partition.request(one.id), "an outcome", ex=60)
    assert not await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    assert not await dead_letters.drop(dead_letter)
    assert await client.xlen(partition.entries) == 1
    assert await client.get(partition.request(one.id)) == b"an outcome"
    assert await dead_letters.image(dead_letter) is None


async def test_of_operators_who_replay_and_drop_at_once_one_wins(
    settings: RedisSettings, client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """Each dead letter is either replayed once or dropped once."""
    for _ in range(20):
        await graveyard.add(entry())
    async with connect(settings) as other_client:
        other = DeadLetters(other_client, partition)
        replayed = 0
        for dead_letter in await dead_letters.all():
            results = await asyncio.gather(
                dead_letters.replay(dead_letter, request_ttl_s=TTL_S),
                other.drop(dead_letter),
                other.replay(dead_letter, request_ttl_s=TTL_S),
            )
            assert sum(results) == 1
            replayed += not results[1]
    assert await dead_letters.all() == []
    assert await client.xlen(partition.entries) == replayed


async def test_a_full_stream_takes_a_replay(graveyard: Graveyard, dead_letters: DeadLetters) -> None:
    """The entry was accepted once; it is new images that must wait."""
    await graveyard.add(entry())
    await graveyard.admit(entry())
    (dead_letter,) = await dead_letters.all()
    assert await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    with pytest.raises(QueueFull) as refused:
        await graveyard.admit(entry())
    assert refused.value.backlog == 2


async def test_what_an_ingest_of_the_future_adds_survives_a_replay(
    client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """Fields that this version does not know are replayed as they are, even one that is named as a letter's own."""
    one = entry()
    sent = {**inline(one), "colour": "red", "reason": "mine"}
    await client.xadd(partition.entries, sent)
    (delivery,) = await graveyard.group.read(1)
    completion = Completion(client, partition, consumer="anna", result_ttl_s=TTL_S, max_dead_letters=9)
    await completion.complete([Completed(delivery.entry_id, Failed(one.id, "dead_letter", ""), "", "poison")])
    (dead_letter,) = await dead_letters.all()
    assert dead_letter.reason == "poison"
    assert dead_letter.entry["reason"] == "mine"
    await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    found: Any = await client.xrange(partition.entries)
    ((_, fields),) = found
    assert fields[b"colour"] == b"red"
    assert fields[b"reason"] == b"mine"
    assert set(fields) == {name.encode() for name in sent} - {b"px"}


async def test_without_memory_a_replay_is_refused_and_changes_nothing(
    client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """Dropping still works: it frees memory."""
    one = entry()
    await graveyard.add(one)
    (dead_letter,) = await dead_letters.all()
    await client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(OutOfMemoryError):
            await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
        assert [kept.id for kept in await dead_letters.all()] == [dead_letter.id]
        assert await client.xlen(partition.entries) == 0
        assert isinstance(await Store(client, partition).state(one.id), Failed)
        assert await dead_letters.drop(dead_letter)
    finally:
        await client.config_set("maxmemory", "0")


async def test_an_unreadable_entry_can_be_looked_at_and_dropped(
    client: Redis, partition: Partition, graveyard: Graveyard, dead_letters: DeadLetters
) -> None:
    """It may hold any bytes. Without a request id nobody could fetch its outcome, so it is not replayed."""
    await client.xadd(partition.entries, {"v": b"\xff"})
    (delivery,) = await graveyard.group.read(1)
    completion = Completion(client, partition, consumer="anna", result_ttl_s=TTL_S, max_dead_letters=9)
    await completion.complete([Completed(delivery.entry_id, Failed("malformed-1", "malformed", ""), "", "malformed")])
    (dead_letter,) = await dead_letters.all()
    assert (dead_letter.request_id, dead_letter.pixels) == ("", 0)
    assert dead_letter.entry == {"v": r"\xff"}
    with pytest.raises(NotReplayable, match=dead_letter.id):
        await dead_letters.replay(dead_letter, request_ttl_s=TTL_S)
    assert await dead_letters.drop(dead_letter)
