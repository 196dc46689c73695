"""The consumer group's commands against a real server."""

import uuid
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from results.completion import Completed, Completion
from results.outcome import Failed
from stream.admission import Admission
from stream.connection.clients import is_temporary
from stream.connection.group_reader import Reader
from stream.entry import Entry, MalformedEntry
from stream.group import Delivery, Group
from stream.keys import GROUP, Partition
from stream.presence import ConsumerReport, Presence
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LEASE_S = 0.2


def entry(**changes: object) -> Entry:
    plain = Entry(id=uuid.uuid4().hex, reply="", top=5, height=1, width=2, pixels=b"abcdef")
    return replace(plain, **changes)  # type: ignore[arg-type]


def report(name: str) -> ConsumerReport:
    return ConsumerReport(name=name, host="here", pid=1, version="1", provider="cpu", state="idle")


@pytest.fixture
async def admission(client: Redis, partition: Partition) -> Admission:
    await Presence(client, partition).heartbeat(report("somebody"), lease_s=60)
    return Admission(client, partition, result_ttl_s=60)


@pytest.fixture
async def anna(client: Redis, reader: Reader, partition: Partition) -> Group:
    group = Group(client, reader, partition, consumer="anna", lease_s=LEASE_S)
    await group.create()
    return group


@pytest.fixture
def bert(client: Redis, reader: Reader, partition: Partition) -> Group:
    return Group(client, reader, partition, consumer="bert", lease_s=LEASE_S)


async def claimed_by(group: Group) -> Delivery:
    """The next entry that the group's consumer can claim, as soon as its lease has run out."""
    found: list[Delivery] = []

    async def claim() -> bool:
        delivery = await group.claim()
        found.extend([delivery] if delivery else [])
        return bool(found)

    await eventually(claim, "an entry can be claimed")
    return found[0]


async def test_entries_accepted_before_the_group_existed_are_delivered(
    admission: Admission, client: Redis, reader: Reader, partition: Partition
) -> None:
    """The group starts at the stream's beginning, not at its end. A group that is gone is no lasting error."""
    early = entry()
    await admission.admit(early, timeout_s=60, max_backlog=100)
    group = Group(client, reader, partition, consumer="late", lease_s=LEASE_S)
    with pytest.raises(ResponseError) as gone:
        await group.read(32)
    assert is_temporary(gone.value)
    await group.create()
    await group.create()  # again, as every consumer does
    (delivery,) = await group.read(32)
    assert isinstance(delivery.entry, Entry)
    assert replace(delivery.entry, due_ms=0) == early


async def test_an_entry_goes_to_one_consumer_only(admission: Admission, anna: Group, bert: Group) -> None:
    """Two consumers of one group never share an entry."""
    sent = [entry() for _ in range(7)]
    for one in sent:
        await admission.admit(one, timeout_s=60, max_backlog=100)
    first, second = await anna.read(4), await bert.read(32)
    assert len(first) == 4
    ids = [delivery.entry.id for delivery in first + second if isinstance(delivery.entry, Entry)]
    assert ids == [one.id for one in sent]


async def test_a_lost_reply_is_found_among_ones_own(admission: Admission, anna: Group) -> None:
    """Entries whose reply never arrived are in the pending list, where `read` does not look."""
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    (lost,) = await anna.read(32)
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    (newer,) = await anna.read(32)
    assert newer.entry_id != lost.entry_id
    own = await anna.read_pending(32)
    assert [delivery.entry_id for delivery in own] == [lost.entry_id, newer.entry_id]
    assert all(delivery.deliveries > 1 for delivery in own)


async def test_the_entries_of_a_silent_consumer_are_claimed_one_by_one(
    admission: Admission, anna: Group, bert: Group
) -> None:
    """After a lease without renewal another consumer gets them, with the count and the name of who lost them."""
    for _ in range(2):
        await admission.admit(entry(), timeout_s=60, max_backlog=100)
    held = await anna.read(32)
    assert await bert.claim() is None
    first, second = await claimed_by(bert), await claimed_by(bert)
    assert [first.entry_id, second.entry_id] == [delivery.entry_id for delivery in held]
    assert (first.deliveries, first.holders) == (2, ("anna",))
    assert first.entry == held[0].entry
    again = await claimed_by(anna)
    assert (again.deliveries, again.holders) == (3, ("anna", "bert"))


async def test_a_renewed_entry_is_not_claimed(admission: Admission, anna: Group, bert: Group) -> None:
    """Renewal holds an entry for longer than its lease, and does not count as a delivery."""
    for _ in range(2):
        await admission.admit(entry(), timeout_s=60, max_backlog=100)
    kept, silent = await anna.read(32)

    async def other_is_claimed() -> bool:
        assert await anna.renew([kept.entry_id]) == []
        delivery = await bert.claim()
        assert delivery is None or delivery.entry_id == silent.entry_id
        return delivery is not None

    await eventually(other_is_claimed, "the entry that is not renewed is claimed")
    assert (await claimed_by(bert)).deliveries == 2


async def test_renewing_an_entry_that_was_claimed_does_not_take_it_back(
    admission: Admission, anna: Group, bert: Group
) -> None:
    """A consumer that was paused learns that it lost the entry, and the new holder keeps it."""
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    (held,) = await anna.read(32)
    await claimed_by(bert)
    assert await anna.renew([held.entry_id]) == [held.entry_id]
    assert [delivery.entry_id for delivery in await bert.read_pending(32)] == [held.entry_id]


async def test_an_unreadable_entry_is_delivered_as_its_error(client: Redis, anna: Group, partition: Partition) -> None:
    """One bad entry does not hide the others that were read with it."""
    await client.xadd(partition.entries, {"v": "1", "id": "x"})
    (delivery,) = await anna.read(32)
    assert isinstance(delivery.entry, MalformedEntry)
    assert "reply" in str(delivery.entry)


async def test_only_dead_consumers_that_hold_nothing_are_removed(
    client: Redis, admission: Admission, anna: Group, bert: Group, partition: Partition
) -> None:
    """Deleting a consumer throws away what it holds, so one that holds something stays."""
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    (held,) = await anna.read(32)
    await bert.read_pending(1)
    await Presence(client, partition).heartbeat(report("carl"), lease_s=60)
    await client.xgroup_createconsumer(partition.entries, GROUP, "carl")
    assert await bert.remove_dead_consumers() == 1
    names = [consumer["name"] for consumer in await client.xinfo_consumers(partition.entries, GROUP)]
    assert names == [b"anna", b"carl"]
    completion = Completion(client, partition, consumer="anna", result_ttl_s=60, max_dead_letters=10)
    assert isinstance(held.entry, Entry)
    await completion.complete([Completed(held.entry_id, Failed(held.entry.id, "cancelled", "test"), "")])
    assert await bert.remove_dead_consumers() == 1


async def test_an_entry_that_is_pending_for_nobody_is_delivered_again(
    client: Redis, admission: Admission, anna: Group, bert: Group, partition: Partition
) -> None:
    """As after a flipped bit in the append-only file. What is pending, or not delivered yet, stays as it is."""
    for _ in range(3):
        await admission.admit(entry(), timeout_s=60, max_backlog=100)
    lost, held = await anna.read(2)
    assert await bert.recover_orphans() == 0
    await client.xack(partition.entries, GROUP, lost.entry_id)
    assert await bert.recover_orphans() == 1
    assert [one.entry_id for one in await bert.take_back(9)] == [lost.entry_id]
    assert await anna.renew([held.entry_id]) == []
    assert len(await anna.read(9)) == 1
    assert await bert.recover_orphans() == 0


async def test_a_last_delivered_id_in_the_future_hides_nothing(
    client: Redis, admission: Admission, anna: Group, partition: Partition
) -> None:
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    await client.xgroup_setid(partition.entries, GROUP, "99999999999999-0")
    assert await anna.read(9, wait=False) == []
    assert await anna.recover_orphans() == 1
    assert len(await anna.take_back(9)) == 1
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    assert len(await anna.read(9)) == 1


async def test_leaving_keeps_what_is_held_for_others(
    client: Redis, admission: Admission, anna: Group, bert: Group, partition: Partition
) -> None:
    """A consumer that leaves with an entry in its hands is not deleted; the entry is claimed."""
    presence = Presence(client, partition)
    await presence.heartbeat(report("anna"), lease_s=60)
    await admission.admit(entry(), timeout_s=60, max_backlog=100)
    (held,) = await anna.read(32)
    assert await presence.leave("anna") == 1
    assert (await claimed_by(bert)).entry_id == held.entry_id
    assert await presence.leave("anna") == 0
