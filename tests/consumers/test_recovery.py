"""Consumers that die, hang or pause, poison, and a Redis that goes away: nothing is lost, nothing answered twice."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from results.outcome import Done, Failed
from stream.connection.clients import connect
from stream.keys import GROUP, PRIORITIES
from stream.presence import Presence
from stream.settings import RedisSettings
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, assert_right, held, marked, outcomes, random_images, send
from tests.support.redis.servers import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

SHORT: dict[str, Any] = {"lease_s": 1.5, "redis_timeout_s": 1.0}


async def test_what_a_killed_consumer_held_is_answered_within_a_lease_and_a_second(
    processes: Processes, client: Redis
) -> None:
    """SIGKILL in the middle of a batch; the other consumer claims each entry."""
    doomed = processes.consumer(rogue="slow", version=1, **SHORT).ready()
    images = random_images(40)
    ids = await send(client, images)
    await eventually(lambda: held(client), "the consumer holds entries")
    processes.consumer(version=1, **SHORT).ready()
    doomed.kill()
    killed = time.monotonic()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert time.monotonic() - killed < SHORT["lease_s"] + 1


async def test_a_killed_consumer_is_seen_as_dead_and_then_forgotten_by_the_group(
    processes: Processes, client: Redis
) -> None:
    """Its report stays for people to see; its place in the group goes once it holds nothing."""
    doomed, other = (processes.consumer(version=1, **SHORT) for _ in range(2))
    other.ready()
    doomed.ready().kill()

    async def one_is_dead() -> bool:
        return sorted(one.alive for one in await Presence(client, TINY).consumers()) == [False, True]

    await eventually(one_is_dead, "one consumer is reported dead")
    await send(client, random_images(1))

    async def one_is_left() -> bool:
        return len(await client.xinfo_consumers(TINY.entries, GROUP)) == 1

    await eventually(one_is_left, "the group has one consumer")


async def test_an_image_that_redis_holds_for_no_consumer_is_answered(processes: Processes, client: Redis) -> None:
    """Behind the last-delivered id and not pending, as a flipped bit in the append-only file can leave it."""
    processes.consumer(version=1, **SHORT).ready()
    await client.xgroup_setid(TINY.entries, GROUP, "99999999999999-0")
    images = random_images(3)
    ids = await send(client, images)
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)


async def test_one_poisonous_image_takes_no_other_down(processes: Processes, client: Redis) -> None:
    """An image that kills its consumer, among 64 good ones: 64 right answers, one error, one dead letter."""
    processes.consumer(version=1, **SHORT).ready().kill()
    images = [*random_images(40), marked(), *random_images(24, seed=1)]
    ids = await send(client, images)
    crashes = 0
    rogue = processes.consumer(rogue="crash", version=1, **SHORT).ready()

    async def all_answered() -> bool:
        nonlocal rogue, crashes
        if rogue.status is not None:
            crashes += 1
            rogue = processes.consumer(rogue="crash", version=1, **SHORT)
        return await client.xlen(TINY.entries) == 0

    await eventually(all_answered, "all are answered", timeout_s=60)
    answers = await outcomes(client, ids)
    poison = answers.pop(40)
    assert isinstance(poison, Failed)
    assert poison.reason == "dead_letter"
    assert poison.detail.endswith(" It became a dead letter."), "as true once it is dropped"
    for outcome, image in zip(answers, [*images[:40], *images[41:]], strict=True):
        assert_right(outcome, image)
    dead_letters: Any = await client.xrange(TINY.dead_letters)
    ((_, dead_letter),) = dead_letters
    assert dead_letter[b"id"].decode() == ids[40]
    assert int(dead_letter[b"deliveries"]) == 3
    assert len(dead_letter[b"holders"].split()) == 3
    assert crashes == 3


async def test_a_consumer_whose_run_hangs_ends_itself(processes: Processes, client: Redis) -> None:
    """After inference_timeout_s it says where it hangs and exits, and another consumer completes its entries."""
    processes.consumer(version=1, **SHORT).ready().kill()
    image = marked()
    ids = await send(client, [image])
    hanging = processes.consumer(rogue="hang", version=1, inference_timeout_s=1.2, max_batch_s=1, **SHORT).ready()
    await eventually(lambda: held(client), "the consumer holds the entry")
    processes.consumer(version=1, **SHORT).ready()
    assert await asyncio.to_thread(hanging.wait) == os.EX_TEMPFAIL
    assert "in _misbehave" in hanging.text
    (outcome,) = await outcomes(client, ids)
    assert_right(outcome, image)


@pytest.mark.parametrize("hangs", [False, True])
async def test_what_a_stopped_consumer_does_not_finish_goes_to_others_at_once(
    processes: Processes, client: Redis, hangs: bool
) -> None:
    """Nobody waits for the end of its lease. Only a batch that hangs counts as delivered: an image may be the cause."""
    processes.consumer(version=1, **SHORT).ready().kill()
    images = [marked(), *random_images(39)]
    ids = await send(client, images)
    batch_s = 0.1 if hangs else 1.0
    stopped = processes.consumer(
        rogue="hang", version=1, lease_s=600, redis_timeout_s=1, max_batch_s=batch_s, shutdown_grace_s=0.5
    ).ready()
    await eventually(lambda: held(client), "the consumer holds entries")
    stopped.send(signal.SIGTERM)
    assert await asyncio.to_thread(stopped.wait) == 1
    left = await client.xpending_range(TINY.entries, GROUP, "-", "+", 99)
    counted = [one["times_delivered"] for one in left if one["times_delivered"]]
    assert counted == ([1] * 32 if hangs else [])
    processes.consumer(version=1, lease_s=600, redis_timeout_s=1).ready()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    handed_back = [one.batch for one in await outcomes(client, ids) if isinstance(one, Done)]
    assert handed_back[0] == (1 if hangs else 32), "quarantine, or a batch like any other"


async def test_a_broken_connection_stops_no_consumer_that_keeps_bulk_images(
    processes: Processes, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it has read ahead are among what Redis holds for it, and are not waited for."""
    monkeypatch.setenv("ROGUE_IMAGE_S", "0.01")
    processes.consumer(rogue="slow", version=1, lease_s=600, redis_timeout_s=1).ready()
    images = random_images(100)
    bulk = TINY.stream("bulk")
    ids = await send(client, images, stream=bulk)

    async def keeps() -> bool:
        return int((await client.xpending(bulk.key, GROUP))["pending"]) > 32

    await eventually(keeps, "more is read than one batch takes")
    for connection in await client.client_list():
        if connection["cmd"] in {"xreadgroup", "mget"}:
            await client.client_kill_filter(_id=connection["id"])
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)


async def reads(client: Redis) -> bool:
    """Whether a group read waits for entries."""
    return any(one["cmd"] == "xreadgroup" and "b" in one["flags"] for one in await client.client_list())


async def superseded(client: Redis) -> bool:
    return b"superseded" in await client.hgetall(TINY.counters)


async def test_a_long_run_keeps_its_lease(processes: Processes, client: Redis) -> None:
    """A batch that takes longer than the lease is renewed from beside it, and nobody claims it."""
    slow = processes.consumer(rogue="slow", version=1, max_batch_s=30, **SHORT).ready()
    processes.consumer(version=1, **SHORT).ready().stop()
    images = random_images(1)
    await outcomes(client, await send(client, images))  # the model's speed is known
    images = random_images(64)  # 3.2 s in two batches
    ids = await send(client, images)
    await eventually(lambda: held(client), "the consumer holds entries")
    processes.consumer(version=1, **SHORT).ready()
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert b"superseded" not in await client.hgetall(TINY.counters)
    assert slow.stop() == 0


async def test_a_consumer_that_was_paused_changes_nothing_when_it_wakes(processes: Processes, client: Redis) -> None:
    """SIGSTOP for longer than the lease: others answer; its own late results are superseded."""
    paused = processes.consumer(rogue="slow", version=1, **SHORT).ready()
    images = random_images(8)
    ids = await send(client, images)
    await eventually(lambda: held(client), "the consumer holds entries")
    paused.send(signal.SIGSTOP)
    processes.consumer(version=1, **SHORT).ready()
    answers = await outcomes(client, ids)
    paused.send(signal.SIGCONT)
    await eventually(lambda: superseded(client), "its late results are counted")
    assert await outcomes(client, ids) == answers
    assert await client.xlen(TINY.entries) == 0


async def test_a_consumer_that_was_paused_takes_no_completed_entry_for_damaged(
    processes: Processes, client: Redis
) -> None:
    """Its read was on the way while it was paused. When it looks for the pixels, another has completed the entry."""
    paused = processes.consumer(version=1, **SHORT).ready()
    ids: list[str] = []

    async def takes_one() -> bool:
        """A read that ends just before the pause, or before the entry, takes nothing: the next one may."""
        paused.send(signal.SIGCONT)
        await eventually(lambda: reads(client), "a read waits for entries")
        paused.send(signal.SIGSTOP)
        ids.extend(await send(client, random_images(1)))
        return bool(await held(client))

    await eventually(takes_one, "the paused consumer holds an entry")
    processes.consumer(version=1, **SHORT).ready()
    await outcomes(client, ids)
    paused.send(signal.SIGCONT)
    await eventually(lambda: superseded(client), "its late refusal is counted")
    assert paused.stop() == 0
    assert "damaged" not in paused.text


async def test_versions_change_under_load(processes: Processes, client: Redis) -> None:
    """Consumers of version 2 join, those of version 1 leave; each answer names the version that made it."""
    old = processes.consumer(version=1).ready()
    images = random_images(300)
    first = await send(client, images[:150])
    processes.consumer(version=2).ready()
    second = await send(client, images[150:])
    assert old.stop() == 0
    third = await send(client, images[:50])
    answers = await outcomes(client, first + second + third)
    for outcome, image in zip(answers, [*images, *images[:50]], strict=True):
        assert isinstance(outcome, Done)
        assert_right(outcome, image, seed={"1": 7, "2": 8}[outcome.version])
    assert {outcome.version for outcome in answers[300:] if isinstance(outcome, Done)} == {"2"}


@pytest.mark.parametrize("outage", ["kill", "stop", "flush"])
async def test_a_consumer_outlives_an_outage_of_redis(outage: str, processes: Processes, own_server: Server) -> None:
    """Redis dies and comes back, hangs, or loses its data: the consumer keeps what it finished, and goes on."""
    consumer = processes.consumer(rogue="slow", version=1, redis_url=own_server.url, **SHORT).ready()
    async with connect(RedisSettings(redis_url=own_server.url)) as client:
        images = random_images(12)
        ids = await send(client, images)
        await eventually(lambda: held(client), "the consumer holds entries")
        match outage:
            case "kill":
                own_server.kill()
                own_server.start()
            case "stop":
                own_server.signal(signal.SIGSTOP)
                await eventually(lambda: _said(consumer.text, "cannot renew leases"), "the consumer noticed")
                own_server.signal(signal.SIGCONT)
                await eventually(lambda: _said(consumer.text, "Redis answers again"), "the log has the end, too")
            case "flush":
                await client.flushall()
                await eventually(lambda: _announced(client), "the consumer has announced itself again")
                await eventually(lambda: _said(consumer.text, "Redis has lost its data"), "the log says so")
                ids = await send(client, images)
        for outcome, image in zip(await outcomes(client, ids), images, strict=True):
            assert_right(outcome, image)
        (again,) = await outcomes(client, await send(client, images[:1]))
        assert_right(again, images[0])
    assert consumer.text.count("Redis has lost its data") == (outage == "flush")
    assert consumer.stop() == 0


async def _said(text: str, what: str) -> bool:
    return what in text


async def _announced(client: Redis) -> bool:
    presence = Presence(client, TINY)
    return bool(await presence.versions()) and any(one.alive for one in await presence.consumers())


async def test_images_for_a_version_that_nobody_serves_are_answered_by_another(
    processes: Processes, client: Redis
) -> None:
    """As long as no consumer of that version lives. As soon as one does, it has them to itself."""
    processes.consumer(version=1, **SHORT).ready()
    images = random_images(12)
    streams = [TINY.stream(priority, "2") for priority in PRIORITIES]
    ids = [one for stream in streams for one in await send(client, images, stream=stream)]
    for outcome, image in zip(await outcomes(client, ids), [*images, *images], strict=True):
        assert_right(outcome, image)
    second = processes.consumer(version=2, **SHORT).ready()
    ids = [one for stream in streams for one in await send(client, images, stream=stream)]
    for outcome, image in zip(await outcomes(client, ids), [*images, *images], strict=True):
        assert_right(outcome, image, seed=8)
    second.kill()
    (request,) = await send(client, images[:1], stream=streams[0])
    (outcome,) = await outcomes(client, [request])
    assert_right(outcome, images[0])
