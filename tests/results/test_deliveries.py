"""Webhooks in Redis, against a real server: how they enter, wait, are taken over, given up and replayed."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from results.completion import Completed, Completion
from results.dead_letters import DeadLetters
from results.deliveries import DeadWebhooks, Deliveries, Pending
from results.outcome import Failed
from results.webhook import Webhook
from stream.connection.clients import connect_reader
from stream.connection.group_reader import Reader
from stream.entry import DamagedEntry, Entry, MalformedEntry
from stream.group import Group
from stream.keys import SENDERS, Partition
from stream.presence import Presence
from stream.settings import RedisSettings
from stream.status.reader import read_status
from stream.status.report import Sending
from tests.results.test_completion import delivered, done
from tests.stream.test_group import entry, report
from tests.support.redis.inline import inline
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

URL = "https://example.com/hook"


@dataclass(frozen=True, slots=True)
class World:
    """One partition with a consumer."""

    client: Redis
    partition: Partition
    group: Group
    completion: Completion
    reader: Redis

    async def sender(self, name: str, *, lease_s: float = 60, delays_s: tuple[float, ...] = (0.05, 0.05)) -> Deliveries:
        """A sender of this name, which tries three times."""
        sender = Deliveries(
            self.client, self.reader, self.partition,
            sender=name, lease_s=lease_s, delays_s=delays_s, max_dead_letters=2,
        )  # fmt: skip
        await sender.create()
        return sender

    async def accept(self) -> tuple[Entry, str]:
        """An entry with a webhook that the consumer holds, and its name."""
        one = hooked()
        delivery = await delivered(self.client, self.partition, self.group, one)
        assert isinstance(delivery.entry, Entry)
        assert delivery.entry.webhook == one.webhook
        return one, delivery.entry_id

    async def complete_one(self) -> Entry:
        one, name = await self.accept()
        await self.completion.complete([Completed(name, done(one), "", webhook=one.webhook)])
        return one


@pytest.fixture
async def world(client: Redis, reader: Reader, partition: Partition, settings: RedisSettings) -> AsyncIterator[World]:
    await Presence(client, partition).heartbeat(report("anna"), lease_s=60)
    group = Group(client, reader, partition, consumer="anna", lease_s=60)
    await group.create()
    completion = Completion(client, partition, consumer="anna", result_ttl_s=60, max_dead_letters=3)
    async with connect_reader(settings) as blocking:
        yield World(client, partition, group, completion, blocking)


def hooked() -> Entry:
    """An entry with a webhook."""
    bare = entry()
    webhook = Webhook(bare.id, URL, 0.5).encode()
    return Entry(bare.id, "", bare.top, bare.height, bare.width, bare.pixels, webhook=webhook)


async def due(sender: Deliveries) -> Pending:
    """The only webhook that this sender can take over, once it is due."""
    found: list[Pending] = []

    async def claimed() -> bool:
        found.extend(await sender.claim(9))
        return bool(found)

    await eventually(claimed, "the webhook is due")
    (pending,) = found
    return pending


async def test_completion_and_delivery_are_one_step(world: World) -> None:
    """The first to complete leaves one webhook with the outcome, the second none; entries without one leave none."""
    one, name = await world.accept()
    plain = await delivered(world.client, world.partition, world.group, other := entry())
    batch = [Completed(plain.entry_id, done(other), ""), Completed(name, done(one), "", webhook=one.webhook)]
    assert await world.completion.complete(batch) == [True, True]
    assert await world.completion.complete(batch) == [False, False]
    (pending,) = await (await world.sender("anna")).read(9)
    assert pending.webhook == Webhook(one.id, URL, 0.5)
    assert pending.outcome == done(one)
    assert (pending.attempt, pending.webhook_id.startswith(f"msg_{one.id}_")) == (1, True)


async def test_failures_and_dead_letters_are_delivered_and_a_replay_again(world: World) -> None:
    """The outcome of the replayed image is another delivery, with an id of its own."""
    one, name = await world.accept()
    failed = Failed(one.id, "dead_letter", "why")
    await world.completion.complete([Completed(name, failed, "", "poison", 3, one.webhook)])
    sender = await world.sender("anna")
    (first,) = await sender.read(9)
    assert first.outcome == failed
    (dead_letter,) = await DeadLetters(world.client, world.partition).all()
    assert await DeadLetters(world.client, world.partition).replay(dead_letter, request_ttl_s=60)
    (again,) = await world.group.read(1)
    assert isinstance(again.entry, Entry)
    await world.completion.complete([Completed(again.entry_id, done(one), "", webhook=again.entry.webhook)])
    (second,) = await sender.read(9)
    assert second.outcome == done(one)
    assert second.webhook_id != first.webhook_id


async def test_a_failed_attempt_waits_for_its_delay_in_redis(world: World) -> None:
    """Any sender continues, with the number of the attempt; a busy receiver costs none. The last failure is final."""
    await world.complete_one()
    anna, bert = await world.sender("anna"), await world.sender("bert")
    (pending,) = await anna.read(9)
    await anna.put_off(pending)
    pending = await due(bert)
    assert pending.attempt == 1
    assert await bert.failed(pending, "no response") == "webhook_failed"
    assert await anna.read(9) == []
    for attempt in (2, 3):
        pending = await due(anna)
        assert pending.attempt == attempt
        ending = await anna.failed(pending, "no response")
    assert ending == "webhook_dead"
    assert (await read_status(world.client, world.partition)).sending == Sending(0, 1, 2)
    counters = await world.client.hgetall(world.partition.counters)
    assert (counters[b"webhook_failed"], counters[b"webhook_dead"]) == (b"3", b"1")
    (dead,) = await DeadWebhooks(world.client, world.partition).all()
    assert (dead.reason, dead.attempts, dead.url) == ("no response", 3, URL)
    assert await DeadWebhooks(world.client, world.partition).replay(dead)
    assert not await DeadWebhooks(world.client, world.partition).replay(dead)
    (replayed,) = await anna.read(9)
    assert (replayed.attempt, replayed.webhook_id) == (1, pending.webhook_id)
    assert replayed.completed_ms == pending.completed_ms == int(pending.id.partition("-")[0])
    assert replayed.id != pending.id
    with pytest.raises(ValueError, match="is no time"):
        assert replace(replayed, fields={b"completed": b"9" * 20}).completed_ms


async def test_what_a_dead_sender_held_is_taken_over(world: World) -> None:
    """After a lease, and not before; the attempt counts. What the dead one reports late changes nothing but success."""
    await world.complete_one()
    dead = await world.sender("dead")
    (held,) = await dead.read(9)
    assert await (await world.sender("early", lease_s=60)).claim(9) == []
    heir = await world.sender("heir", lease_s=0.05)
    pending = await due(heir)
    assert (pending.id, pending.attempt) == (held.id, 2)
    assert await dead.failed(held, "late") == "webhook_failed"
    waiting: Any = await world.client.xpending_range(world.partition.webhooks, SENDERS, "-", "+", 9)
    assert [one["consumer"] for one in waiting] == [b"heir"]
    assert await dead.delivered(held)
    assert not await heir.delivered(pending)
    assert await world.client.xlen(world.partition.webhooks) == 0


async def test_a_sender_that_stops_is_forgotten_unless_it_holds_a_webhook(world: World) -> None:
    """It counted as alive for half a minute, also after the server had been started again."""
    idle, holder = await world.sender("idle"), await world.sender("holder")
    assert await idle.read(9) == []
    await world.complete_one()
    (held,) = await holder.read(9)
    for sender in (idle, holder):
        await sender.leave()
    assert [one["name"] for one in await world.client.xinfo_consumers(world.partition.webhooks, SENDERS)] == [b"holder"]
    assert await holder.delivered(held)
    await holder.leave()
    assert await world.client.xinfo_consumers(world.partition.webhooks, SENDERS) == []


async def test_fewer_attempts_than_before_end_with_a_last_one(world: World) -> None:
    """With its own reason, and as many attempts as there were. One that was lost with its sender is not repeated."""
    fewer = await world.sender("fewer", lease_s=0.05, delays_s=(0.05,))
    for dies, reason in ((False, "the receiver responded with 500"), (True, "the sender of the last attempt died")):
        await world.complete_one()
        more = await world.sender("more", delays_s=(0.05, 0.05, 0.05, 0.05))
        (pending,) = await more.read(9)
        for _ in range(3):
            assert await more.failed(pending, "no response") == "webhook_failed"
            pending = await due(more)
        assert await more.failed(pending, "no response") == "webhook_failed"
        pending = await due(more if dies else fewer)
        assert (pending.attempt, pending.is_spent) == (5, False)
        pending = await due(fewer) if dies else pending
        assert (pending.attempt, pending.is_spent) == (5, dies)
        assert await fewer.failed(pending, reason) == "webhook_dead"
        dead = (await DeadWebhooks(world.client, world.partition).all())[-1]
        assert (dead.reason, dead.attempts) == (reason, 5)


async def test_dead_webhooks_are_bounded(world: World) -> None:
    """The newest max_dead_letters stay."""
    sender = await world.sender("anna")
    sent = []
    for _ in range(3):
        sent.append(await world.complete_one())
        (pending,) = await sender.read(9)
        await sender.failed(pending, "gone", for_good=True)
    dead = await DeadWebhooks(world.client, world.partition).all()
    assert [one.request_id for one in dead] == [one.id for one in sent[1:]]
    assert await DeadWebhooks(world.client, world.partition).drop(dead[0])
    assert [one.id for one in await DeadWebhooks(world.client, world.partition).all()] == [dead[1].id]


async def test_dead_webhooks_expire_with_dead_letters(world: World) -> None:
    """By the time at which they were given up; those that still wait for their delivery stay, however old."""
    dead_letters = DeadLetters(world.client, world.partition)
    sender = await world.sender("anna")
    for _ in range(2):
        await world.complete_one()
    (given_up, _waits) = await sender.read(9)
    await sender.failed(given_up, "gone", for_good=True)
    assert await dead_letters.expire(60) == (0, 0)
    assert len(await DeadWebhooks(world.client, world.partition).all()) == 1

    async def expired() -> bool:
        return await dead_letters.expire(0.001) == (0, 1)

    await eventually(expired, "the dead webhook is older than a millisecond")
    assert await DeadWebhooks(world.client, world.partition).all() == []
    assert await world.client.xlen(world.partition.webhooks) == 1


async def test_nothing_is_completed_if_its_webhook_cannot_be_kept(world: World) -> None:
    """A key of another type is in its place: the entry stays, until somebody deletes that key."""
    one, name = await world.accept()
    await world.client.set(world.partition.webhooks, "other")
    ended = [Completed(name, done(one), "", webhook=one.webhook)]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await world.completion.complete(ended)
    assert await world.client.xlen(world.partition.entries) == 1
    await world.client.delete(world.partition.webhooks)
    assert await world.completion.complete(ended) == [True]
    assert await world.client.xlen(world.partition.webhooks) == 1


@pytest.mark.parametrize(
    "line",
    ["", "x", "1 {}", Webhook("id", URL).encode().replace("example", "exbmple"), Webhook("a b", URL).encode(),
     Webhook("id", 7).encode(), Webhook("id", URL, "0.5").encode(),  # type: ignore[arg-type]
     f"{zlib.crc32(b'[' * 100_000)} {'[' * 100_000}"],
)  # fmt: skip
def test_a_damaged_or_strange_webhook_is_refused(line: str) -> None:
    """A URL with one wrong bit would bring the outcome to somebody else."""
    with pytest.raises(ValueError, match=r"webhook|Expecting|nested"):
        Webhook.decode(line)


def test_a_webhook_survives_its_entry() -> None:
    """Also a damaged entry, whose client waits for nothing else; what is no line of text is refused."""
    one = hooked()
    fields = {
        str(name).encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in inline(one).items()
    }
    assert Entry.decode(fields).webhook == one.webhook
    with pytest.raises(DamagedEntry) as damaged:
        Entry.decode(fields | {b"px": bytes(len(one.pixels))})
    assert damaged.value.webhook == one.webhook
    with pytest.raises(MalformedEntry, match="line of text"):
        Entry.decode(fields | {b"webhook": b"\xff"})
