"""Completion, the store and the reply stream against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from results.completion import Completed, Completion
from results.outcome import Done, Failed, Outcome, decode, encode
from results.replies import Replies
from results.store import Store
from stream.admission import Admission
from stream.connection.clients import connect_reader
from stream.connection.group_reader import Reader
from stream.entry import Entry
from stream.group import Delivery, Group
from stream.keys import GROUP, Partition
from stream.presence import Presence
from stream.settings import RedisSettings
from tests.stream.test_group import entry, report

pytestmark = pytest.mark.anyio


@pytest.fixture
async def group(client: Redis, reader: Reader, partition: Partition) -> Group:
    await Presence(client, partition).heartbeat(report("somebody"), lease_s=60)
    group = Group(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    return group


@pytest.fixture
def completion(client: Redis, partition: Partition) -> Completion:
    return Completion(client, partition, consumer="anna", result_ttl_s=60, max_dead_letters=3)


async def delivered(client: Redis, partition: Partition, group: Group, one: Entry) -> Delivery:
    await Admission(client, partition, result_ttl_s=60).admit(one, timeout_s=60, max_backlog=100)
    (delivery,) = await group.read(1)
    return delivery


def done(one: Entry) -> Done:
    return Done(one.id, "1", "cpu", (3, 1), (0.5, 0.25), 1, 0.0, 0.0)


async def test_completion_leaves_a_result_and_nothing_else(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """The entry is out of the stream and the group; its outcome is found under its id."""
    one = entry()
    delivery = await delivered(client, partition, group, one)
    store = Store(client, partition)
    assert await store.state(one.id) == "queued"
    assert await completion.complete([Completed(delivery.entry_id, done(one), "")]) == [True]
    assert await store.state(one.id) == done(one)
    assert await client.xlen(partition.entries) == 0
    assert (await client.xpending(partition.entries, GROUP))["pending"] == 0
    assert await store.state("never-was") == "unknown"


async def test_the_second_to_finish_changes_nothing(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """Two consumers may run the same entry; the first outcome stands, and the waiting ingest hears it once."""
    one = entry(reply="ingest-1")
    delivery = await delivered(client, partition, group, one)
    late = replace(done(one), version="2")
    assert await completion.complete([Completed(delivery.entry_id, done(one), "ingest-1")]) == [True]
    assert await completion.complete([Completed(delivery.entry_id, late, "ingest-1")]) == [False]
    assert await Store(client, partition).state(one.id) == done(one)
    assert await client.xlen(partition.replies("ingest-1")) == 1
    assert await client.hgetall(partition.counters) == {b"completed": b"1", b"superseded": b"1"}


async def test_of_a_batch_only_what_was_held_is_changed(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """One was completed by another consumer before, one stands twice in the batch; both count as superseded."""
    sent = [entry(reply=f"ingest-{number % 2}") for number in range(4)]
    held = [await delivered(client, partition, group, one) for one in sent]
    batch = [Completed(delivery.entry_id, done(one), one.reply) for delivery, one in zip(held, sent, strict=True)]
    assert await completion.complete(batch[1:2]) == [True]
    late = replace(batch[1], outcome=replace(done(sent[1]), version="2"))
    assert await completion.complete([batch[0], late, batch[2], batch[2]]) == [True, False, True, False]
    assert await client.xlen(partition.entries) == 1
    assert await client.xrange(partition.entries, held[3].entry_id, held[3].entry_id)
    assert (await client.xpending(partition.entries, GROUP))["pending"] == 1
    states = await Store(client, partition).states([one.id for one in sent])
    assert states == [done(sent[0]), done(sent[1]), done(sent[2]), "queued"]
    for ingest, answered in (("ingest-0", [sent[0], sent[2]]), ("ingest-1", [sent[1]])):
        entries: Any = await client.xrange(partition.replies(ingest))
        ((_, announced),) = entries  # one for all of a batch
        assert [decode(outcome) for outcome in announced.values()] == [done(one) for one in answered]
        assert await client.pttl(partition.replies(ingest)) > 0
    assert await client.hgetall(partition.counters) == {b"completed": b"3", b"superseded": b"2"}


async def test_a_dead_letter_keeps_the_entry_and_the_reason(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """It can be looked at and replayed; only the newest are kept."""
    sent = [entry() for _ in range(5)]
    for one in sent:
        delivery = await delivered(client, partition, group, one)
        outcome = Failed(one.id, "dead_letter", "why")
        await completion.complete([Completed(delivery.entry_id, outcome, "", "poison", deliveries=3)])
    found: Any = await client.xrange(partition.dead_letters)
    dead_letters = [fields for _, fields in found]
    assert [fields[b"id"].decode() for fields in dead_letters] == [one.id for one in sent[2:]]
    assert dead_letters[0][b"reason"] == b"poison"
    assert dead_letters[0][b"deliveries"] == b"3"
    assert dead_letters[0][b"holders"] == b"anna"
    assert Entry.decode(dead_letters[0]).pixels == sent[2].pixels


async def test_completing_works_when_redis_is_out_of_memory(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """Completing is what frees the memory."""
    one = entry()
    delivery = await delivered(client, partition, group, one)
    await client.config_set("maxmemory", "1mb")
    try:
        assert await completion.complete([Completed(delivery.entry_id, done(one), "")]) == [True]
    finally:
        await client.config_set("maxmemory", "0")


async def test_only_a_queued_request_can_be_cancelled(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """The mark is set once, is seen, keeps its time to live, and never replaces an outcome."""
    one, other = entry(), entry()
    delivery = await delivered(client, partition, group, one)
    store = Store(client, partition)
    assert await store.cancel(one.id)
    assert not await store.cancel(one.id)
    assert await store.state(one.id) == "cancelled"
    assert await client.pttl(partition.request(one.id)) > 0
    delivery = await delivered(client, partition, group, other)
    await completion.complete([Completed(delivery.entry_id, done(other), "")])
    assert not await store.cancel(other.id)
    assert not await store.cancel("never-was")


async def test_who_watches_a_request_hears_that_it_was_cancelled(
    client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """Each watcher once, when a consumer has passed the entry over; the mark still reads as cancelled until then."""
    one = entry()
    delivery = await delivered(client, partition, group, one)
    store = Store(client, partition)
    for watcher in ("ingest-1", "ingest-2", "ingest-1"):
        assert await store.subscribe(one.id, watcher) == "queued"
    assert await store.cancel(one.id)
    assert await store.state(one.id) == "cancelled"
    assert await store.subscribe(one.id, "ingest-3") == "cancelled"
    outcome = Failed(one.id, "cancelled", "test")
    await completion.complete([Completed(delivery.entry_id, outcome, "")])
    assert [await client.xlen(partition.replies(f"ingest-{number}")) for number in (1, 2, 3)] == [1, 1, 0]
    assert await store.state(one.id) == outcome


async def test_replies_resolve_the_futures_of_their_requests(
    settings: RedisSettings, client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """One reader serves all that wait; what nobody waits for any more is passed over."""
    async with connect_reader(settings) as own:
        replies = Replies(own, Store(client, partition), partition, ingest="ingest-1", result_ttl_s=60)
        sent = [entry(reply="ingest-1") for _ in range(3)]
        futures = [replies.expect(one.id) for one in sent[1:]]
        reading = asyncio.create_task(replies.run())
        held = [await delivered(client, partition, group, one) for one in sent]
        batch = [Completed(delivery.entry_id, done(one), "ingest-1") for delivery, one in zip(held, sent, strict=True)]
        await completion.complete(batch[:1])
        await completion.complete(batch[1:])
        assert [outcome.id for outcome in await asyncio.gather(*futures)] == [one.id for one in sent[1:]]
        assert len(replies._waiting) == 0
        reading.cancel()


@asynccontextmanager
async def missed(
    settings: RedisSettings, client: Redis, partition: Partition, group: Group, completion: Completion
) -> AsyncIterator[tuple[Entry, asyncio.Future[Outcome]]]:
    """An entry whose outcome is stored while a reader waits for its reply, which is not sent."""
    async with connect_reader(settings) as own:
        replies = Replies(own, Store(client, partition), partition, ingest="ingest-1", result_ttl_s=60)
        one = entry(reply="ingest-1")
        future = replies.expect(one.id)
        reading = asyncio.create_task(replies.run())
        delivery = await delivered(client, partition, group, one)
        await completion.complete([Completed(delivery.entry_id, done(one), "")])
        yield one, future
        reading.cancel()


async def test_a_reader_that_lost_its_connection_catches_up(
    settings: RedisSettings, client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """An outcome stored while nobody read, and whose reply is gone, still reaches who waits for it."""
    async with missed(settings, client, partition, group, completion) as (one, future):
        await client.client_kill_filter(_type="normal", skipme=True)
        assert await asyncio.wait_for(future, 10) == done(one)


async def test_a_damaged_reply_is_answered_from_the_store(
    settings: RedisSettings, client: Redis, partition: Partition, group: Group, completion: Completion
) -> None:
    """The outcome is kept twice, so its client need not wait until its deadline."""
    async with missed(settings, client, partition, group, completion) as (one, future):
        await client.xadd(partition.replies("ingest-1"), {"1": encode(done(one))[:-1]})
        await client.expire(partition.replies("ingest-1"), 60)
        assert await asyncio.wait_for(future, 10) == done(one)
