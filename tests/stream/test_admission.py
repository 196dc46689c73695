"""Admission against a real server: the bound, the refusals, the repeated command."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from results.store import Store
from stream.admission import Admission, NoLiveConsumer, NotReplicated, QueueFull
from stream.connection.clients import is_temporary
from stream.entry import CANCELLED
from stream.keys import Partition
from stream.presence import Presence
from tests.stream.test_group import entry, report
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def attended(client: Redis, partition: Partition) -> Presence:
    presence = Presence(client, partition)
    await presence.heartbeat(report("somebody"), lease_s=60)
    return presence


async def test_the_bound_holds_for_any_number_at_once(attended: Presence, client: Redis, partition: Partition) -> None:
    """Of 40 entries at the same time, exactly as many are taken as fit."""
    admission = Admission(client, partition, result_ttl_s=60)
    verdicts = await asyncio.gather(
        *(admission.admit(entry(), timeout_s=60, max_backlog=7) for _ in range(40)), return_exceptions=True
    )
    assert sorted(verdict for verdict in verdicts if isinstance(verdict, int)) == [1, 2, 3, 4, 5, 6, 7]
    refused = [verdict for verdict in verdicts if isinstance(verdict, QueueFull)]
    assert len(refused) == 33
    assert refused[0].backlog == 7
    assert await client.xlen(partition.entries) == 7


async def test_the_same_request_is_admitted_once(attended: Presence, client: Redis, partition: Partition) -> None:
    """A command that is sent again after a lost reply adds no second entry."""
    admission = Admission(client, partition, result_ttl_s=60)
    one = entry()
    await admission.admit(one, timeout_s=60, max_backlog=7)
    assert await admission.admit(one, timeout_s=60, max_backlog=7) == 1
    assert await client.xlen(partition.entries) == 1


async def test_a_command_sent_again_brings_no_pixels_back(
    attended: Presence, client: Redis, partition: Partition
) -> None:
    """If the request was cancelled in between."""
    admission = Admission(client, partition, result_ttl_s=60)
    one = entry()
    await admission.admit(one, timeout_s=60, max_backlog=7)
    assert await client.get(partition.pixels(one.id)) == one.pixel_value
    await Store(client, partition).cancel(one.id)
    for _ in range(2):
        assert await client.get(partition.pixels(one.id)) == CANCELLED
        await admission.admit(one, timeout_s=60, max_backlog=7)
    assert await client.pttl(partition.pixels(one.id)) > 60_000


async def test_what_no_replica_has_is_not_admitted(attended: Presence, client: Redis, partition: Partition) -> None:
    """There is none here; the entry may be answered all the same, and the same request can be sent again."""
    admission = Admission(client, partition, result_ttl_s=60, replicas=1, wait_s=0.05)
    one = entry()
    for _ in range(2):
        with pytest.raises(NotReplicated):
            await admission.admit(one, timeout_s=60, max_backlog=7)
    with pytest.raises(NotReplicated):
        await admission.probe()
    assert await client.xlen(partition.entries) == 1
    assert 60_000 < await client.pttl(partition.request(one.id)) <= 120_000


async def test_nothing_is_admitted_where_nobody_is_alive(client: Redis, partition: Partition) -> None:
    """No consumer ever, or none any more: the image would wait for nobody."""
    admission = Admission(client, partition, result_ttl_s=60)
    with pytest.raises(NoLiveConsumer):
        await admission.admit(entry(), timeout_s=60, max_backlog=7)
    await Presence(client, partition).heartbeat(report("brief"), lease_s=0.05)

    async def refused() -> bool:
        try:
            await admission.admit(entry(), timeout_s=60, max_backlog=7)
        except NoLiveConsumer:
            return True
        return False

    await eventually(refused, "the heartbeat has ended")


async def test_an_image_may_wait_for_a_consumer(client: Redis, partition: Partition) -> None:
    """Where something starts consumers when images wait, they are admitted before; the bound holds all the same."""
    admission = Admission(client, partition, result_ttl_s=60)
    assert await admission.admit(entry(), timeout_s=60, max_backlog=1, without_consumers=True) == 1
    with pytest.raises(QueueFull):
        await admission.admit(entry(), timeout_s=60, max_backlog=1, without_consumers=True)


async def test_the_deadline_is_by_the_clock_of_redis(attended: Presence, client: Redis, partition: Partition) -> None:
    """What travels is an absolute time that all hosts agree on."""
    await Admission(client, partition, result_ttl_s=60).admit(entry(), timeout_s=12, max_backlog=7)
    entries: Any = await client.xrange(partition.entries)
    ((entry_id, fields),) = entries
    accepted_ms = int(entry_id.split(b"-")[0])
    assert 11_900 <= int(fields[b"due"]) - accepted_ms <= 12_000


async def test_a_full_memory_is_a_passing_error(attended: Presence, client: Redis, partition: Partition) -> None:
    """Redis refuses to grow; ingest answers 503 and consumers go on completing, which frees memory."""
    await client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            await Admission(client, partition, result_ttl_s=60).admit(entry(), timeout_s=60, max_backlog=7)
        assert is_temporary(caught.value)
    finally:
        await client.config_set("maxmemory", "0")


async def test_the_request_s_state_outlives_its_deadline(
    attended: Presence, client: Redis, partition: Partition
) -> None:
    """`queued` must not expire before the entry does, or the same id could be admitted twice."""
    one = entry()
    await Admission(client, partition, result_ttl_s=60).admit(one, timeout_s=12, max_backlog=7)
    assert 70_000 < await client.pttl(partition.request(one.id)) <= 72_000


async def pixel_keys(client: Redis, partition: Partition) -> list[bytes]:
    return [key async for key in client.scan_iter(partition.pixels("*"))]


async def test_pixels_live_as_long_as_their_request(attended: Presence, client: Redis, partition: Partition) -> None:
    """Also if the same request comes twice. Pixels without an entry do not live as long."""
    one = entry()
    for _ in range(2):
        await Admission(client, partition, result_ttl_s=60).admit(one, timeout_s=12, max_backlog=7)
        assert 70_000 < await client.pttl(partition.pixels(one.id)) <= 72_000
    assert await client.get(partition.pixels(one.id)) == one.pixels


async def test_what_is_refused_leaves_no_pixels(client: Redis, partition: Partition) -> None:
    """Without consumers, with a full queue, and with a key of another type."""
    admission = Admission(client, partition, result_ttl_s=60)
    with pytest.raises(NoLiveConsumer):
        await admission.admit(entry(), timeout_s=60, max_backlog=7)
    with pytest.raises(QueueFull):
        await admission.admit(entry(), timeout_s=60, max_backlog=0, without_consumers=True)
    await client.set(partition.entries, "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await admission.admit(entry(), timeout_s=60, max_backlog=7, without_consumers=True)
    assert await pixel_keys(client, partition) == []
    await client.delete(partition.entries)


async def test_a_request_that_has_ended_leaves_no_pixels(
    attended: Presence, client: Redis, partition: Partition
) -> None:
    """A command that arrives a second time, after the outcome, stores nothing."""
    one = entry()
    await client.set(partition.request(one.id), "done", px=60_000)
    await Admission(client, partition, result_ttl_s=60).admit(one, timeout_s=60, max_backlog=7)
    assert await pixel_keys(client, partition) == []
