"""The status of a partition: what it reads, what counts as trouble, and `python -m consumers status`."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from consumers.status import completed_per_s
from stream.admission import Admission
from stream.connection.group_reader import Reader
from stream.group import Group
from stream.keys import GROUP, Partition, Priority
from stream.presence import Presence
from stream.releases import Release, ReleaseFigures, ReleaseStatus
from stream.status.formatting import document, lines
from stream.status.reader import read_status
from stream.status.report import ClassStatus, ConsumerStatus, Sending, Status
from tests.results.test_dead_letters import Graveyard
from tests.stream.test_group import entry, report
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

NOTHING: dict[Priority, ClassStatus] = {"interactive": ClassStatus(), "bulk": ClassStatus()}

SHORT = {"lease_s": 1.5, "redis_timeout_s": 1.0}


def member(name: str = "first", **changes: object) -> ConsumerStatus:
    plain = ConsumerStatus(
        name, replace(report(name), images_per_s=50.0), silent_s=0.0, held=0, oldest_s=0.0, idle_s=0.0
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def status(*members: ConsumerStatus, **changes: object) -> Status:
    plain = Status("tiny", 1000, members, 0, 0, None, 0, {"completed": 10}, NOTHING)
    return replace(plain, **changes)  # type: ignore[arg-type]


async def test_a_partition_that_nobody_used_has_no_consumer(client: Redis, partition: Partition) -> None:
    """Nothing is there: no error, but nobody to work."""
    empty = await read_status(client, partition)
    assert empty == Status(partition.model, empty.now_ms, (), 0, 0, None, 0, {}, NOTHING)
    assert empty.problems(max_age_s=1) == ["No consumer is alive."]


async def test_a_status_tells_the_classes_apart(client: Redis, reader: Reader, partition: Partition) -> None:
    """Their figures add up to the whole, those of streams for one version included."""
    group = Group(client, reader, partition, consumer="anna", lease_s=60, version="2")
    await group.create()
    await Presence(client, partition).heartbeat(replace(report("anna"), images_per_s=8.0), lease_s=60)
    admission = Admission(client, partition, result_ttl_s=60)
    bulk, wanted = partition.stream("bulk"), partition.stream("bulk", "2")
    for stream in (partition.stream(), bulk, bulk, wanted):
        await admission.admit(entry(), timeout_s=60, max_backlog=9, stream=stream)
    assert len(await group.read(1)) == 3
    found = await read_status(client, partition)
    assert (found.backlog, found.pending, found.undelivered) == (4, 3, 1)
    assert [(one.backlog, one.pending) for one in found.classes.values()] == [(1, 1), (3, 2)]
    assert found.oldest_s == max(one.oldest_s or 0.0 for one in found.classes.values())
    assert [(one.name, one.held) for one in found.members] == [("anna", 3)]
    shown_lines = lines(found, max_age_s=60, completed_per_s=None, width=None)
    assert any(line.startswith("  interactive 1 (1 held), oldest ") for line in shown_lines)
    assert any(line.startswith("  bulk        3 (2 held), oldest ") for line in shown_lines)
    shown = document(found, max_age_s=60)["classes"]["bulk"]
    assert (shown["backlog"], shown["pending"]) == (3, 2)


async def test_a_status_tells_who_holds_what_for_how_long(client: Redis, reader: Reader, partition: Partition) -> None:
    """From the group, the heartbeats and the counters, at one moment and by Redis's clock."""
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    await graveyard.add(entry())
    reported = replace(report(graveyard.group.consumer), images_per_s=50.0, images=7)
    await Presence(client, partition).heartbeat(reported, lease_s=60)
    await graveyard.admit(entry())
    (delivery,) = await graveyard.group.read(1)
    await client.xadd(partition.entries, {"v": "1"})

    async def has_aged() -> bool:
        return (await read_status(client, partition)).members[0].idle_s > 0.05

    await eventually(has_aged, "the entry is held for a while")
    assert await graveyard.group.renew([delivery.entry_id]) == []
    found = await read_status(client, partition)
    working, idle = found.members
    assert (working.name, working.alive, working.held) == (graveyard.group.consumer, True, 1)
    assert working.oldest_s > working.idle_s, "renewing does not make an entry younger"
    assert found.oldest_s == working.oldest_s
    assert working.report is not None
    assert working.report.images == 7
    assert (idle.name, idle.held, idle.oldest_s) == ("somebody", 0, 0)
    assert (found.backlog, found.pending, found.undelivered, found.dead_letters) == (2, 1, 1, 1)
    assert found.counters == {"completed": 1, "dead_letter": 1}
    assert (found.living, found.images_per_s, found.drain_s) == (2, 50.0, 2 / 50)
    assert found.problems(max_age_s=60) == []


async def test_a_consumer_that_has_left_is_not_listed_for_ever(
    client: Redis, reader: Reader, partition: Partition
) -> None:
    """Its name is still in the group of a version that nobody serves any more, but it holds nothing there."""
    group = Group(client, reader, partition, consumer="gone", lease_s=60, version="1")
    await group.create()
    old = partition.stream("interactive", "1").key
    await client.sadd(partition.wanted_versions, "1")
    await client.xgroup_createconsumer(old, GROUP, "gone")
    await Presence(client, partition).heartbeat(replace(report("living"), version="2"), lease_s=60)
    assert [one.name for one in (await read_status(client, partition)).members] == ["living"]


async def test_a_dead_consumer_that_holds_entries_is_trouble(
    client: Redis, reader: Reader, partition: Partition
) -> None:
    """Also where its heartbeat was never heard or is long forgotten: the group still knows it."""
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    await graveyard.admit(entry())
    await graveyard.group.read(1)
    (silent, _) = (await read_status(client, partition)).members
    assert (silent.alive, silent.silent_s, silent.report, silent.held) == (False, None, None, 1)
    await Presence(client, partition).heartbeat(report(graveyard.group.consumer), lease_s=0.001)

    async def is_dead() -> bool:
        return not (await read_status(client, partition)).members[0].alive

    await eventually(is_dead, "the heartbeat has ended")
    found = await read_status(client, partition)
    (problem,) = found.problems(max_age_s=60)
    assert problem.startswith(f"{graveyard.group.consumer} is dead and holds 1 entries")
    (problem,) = replace(found, refused_writes="The disk is full").problems(max_age_s=60)
    assert problem.startswith("The disk is full. "), "without heartbeats, it may only look dead"
    assert found.members[0].silent_s
    assert found.living == 1


async def test_undelivered_is_counted_and_not_what_redis_reports(
    client: Redis, partition: Partition, reader: Reader
) -> None:
    """Redis's own count, `lag`, can be far too high after a restart, and unknown after a deletion."""
    graveyard = Graveyard(client, reader, partition)
    await graveyard.open()
    ids = [await client.xadd(partition.entries, {"v": "1"}) for _ in range(3)]
    await graveyard.group.read(1)
    await client.xgroup_setid(partition.entries, GROUP, ids[0], entries_read=0)
    (group,) = await client.xinfo_groups(partition.entries)
    assert group["lag"] == 3, "the server's count is wrong"
    assert "(1 held, 2 undelivered)" in "\n".join(_lines(await read_status(client, partition)))
    await client.xdel(partition.entries, ids[1])
    assert "(1 held, 1 undelivered)" in "\n".join(_lines(await read_status(client, partition)))


def test_a_backlog_is_trouble_when_it_is_old() -> None:
    """Not when it is long."""
    old = status(member(), backlog=1000, oldest_s=12.0)
    assert old.problems(max_age_s=12.5) == []
    assert old.problems(max_age_s=11.5) == ["The oldest of 1000 entries has waited for 12.0 s."]
    assert old.drain_s == 20.0
    assert status(backlog=1).drain_s is None
    assert status().drain_s == 0.0


def test_the_rate_is_counted_between_two_looks() -> None:
    """Unless the counter went back, as after a flush."""
    before = status()
    assert completed_per_s(before, replace(before, now_ms=3000, counters={"completed": 90})) == 40.0
    assert completed_per_s(before, replace(before, now_ms=3000, counters={})) is None
    assert completed_per_s(before, before) is None


def test_people_see_trouble_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the figures, then a line for each consumer that fits the terminal."""
    dead = member("bert-with-a-very-long-name-indeed", silent_s=75.0, held=3, oldest_s=80.0, idle_s=76.0)
    stranger = member("carl", report=None, silent_s=None)
    shown = _lines(status(member(), dead, stranger, backlog=5, pending=3, oldest_s=80.0), width=110, rate=12.5)
    assert shown[:6] == [
        "tiny: 1 of 3 consumers alive, completing 12.5 images/s",
        "! The oldest of 5 entries has waited for 80.0 s.",
        "! bert-with-a-very-long-name-indeed is dead and holds 3 entries, silent for 75 s.",
        "backlog 5 (3 held, 2 undelivered), oldest 80 s, 0.1 s to drain at 50.0 images/s",
        "dead letters 0",
        "images since the queue was made: 10 completed",
    ]
    assert shown[8].split()[:5] == ["first", "idle", "1", "cpu", "50.0"]
    assert " DEAD 75 s " in shown[9]
    assert shown[10].split()[:2] == ["carl", "DEAD"]
    assert max(map(len, shown[7:])) <= 110
    assert _lines(status())[1:3] == ["! No consumer is alive.", "backlog 0"]
    ended = {"cancelled": 3, "completed": 10, "dead_letter": 1, "superseded": 2, "webhook_delivered": 4}
    assert "images since the queue was made: 10 completed (3 cancelled, 1 dead letter), 2 superseded" in _lines(
        status(counters=ended)
    )
    assert _lines(status(backlog=1))[2].endswith(", no consumer works")
    assert "dead letters 2 (python -m results dead-letters list)" in _lines(status(member(), dead_letters=2))
    monkeypatch.setenv("SLUICE_PROGRAM", "sluice status")
    assert any("sluice results dead-letters list)" in line for line in _lines(status(member(), dead_letters=2)))


def test_programs_read_of_a_dead_consumer_that_it_is_dead() -> None:
    """Not what it did when it was last heard of."""
    living, dead = document(status(member(), member("bert", silent_s=75.0)), max_age_s=15)["consumers"]
    assert (living["state"], dead["state"]) == ("idle", "dead")
    assert (living["alive"], dead["alive"]) == (True, False)


def _lines(status: Status, *, width: int | None = None, rate: float | None = None) -> list[str]:
    return lines(status, max_age_s=30, completed_per_s=rate, width=width)


def test_webhooks_have_a_line_of_their_own_and_what_is_passed_over_is_no_fault() -> None:
    """Their counters are not among those of images. A version that is too slow here makes no one unhealthy."""
    passing = member(report=replace(report("first"), passed_over="2: it is fp16"))
    found = status(passing, sending=Sending(webhooks=1, senders=1))
    found = replace(found, counters={"completed": 10, "webhook_delivered": 3, "webhook_failed": 1})
    shown = _lines(found)
    assert "images since the queue was made: 10 completed" in shown
    assert "webhooks 1 waiting, 0 dead, 3 delivered, 1 failed attempt, 1 sender alive" in shown
    assert "first passes over version 2: it is fp16" in shown
    assert found.problems(max_age_s=30) == []


def test_a_release_is_shown_with_its_figures_and_its_problems() -> None:
    """In words and for programs; a version without a consumer is a problem."""
    release = ReleaseStatus(
        Release("1", "2", share=0.05), ReleaseFigures(sent={"1": 190, "2": 10}, fallbacks=3, compared=0)
    )
    found = status(member(), release=release)
    assert (
        "release: version 2 takes 5 % of the requests, version 1 takes all others; so far 190 requests to version 1, "
        "10 requests to version 2; 3 to another version: the wanted one had no live consumer or a full queue"
    ) in lines(found, max_age_s=60, completed_per_s=None, width=None)
    assert document(found, max_age_s=60)["release"]["share"] == 0.05
    assert found.problems(max_age_s=60) == ["The release names version 2, and no consumer of it is alive."]
    assert document(status(member()), max_age_s=60)["release"] is None
