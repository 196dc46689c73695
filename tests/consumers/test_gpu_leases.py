"""GPUs shared out among consumers: by pretended GPUs, with a real server and real processes."""

import asyncio
import os
import re
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.gpu import devices as gpus
from consumers.gpu.leases import Seat, Seats
from stream.keys import seat as key_of
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import assert_right, outcomes, pictures, send
from tests.support.redis.servers import Server
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

FOUR = [f"gpu-{os.getpid()}-{number}" for number in range(4)]


def seats(client: Redis, consumer: str, *, per_gpu: int = 1, chosen: int | None = None, lease_s: float = 60) -> Seats:
    return Seats(client, FOUR, consumer=consumer, lease_s=lease_s, per_gpu=per_gpu, chosen=chosen)


async def take(client: Redis, consumer: str, *, per_gpu: int = 1, chosen: int | None = None) -> Seat | None:
    return await seats(client, consumer, per_gpu=per_gpu, chosen=chosen).take()


async def test_each_takes_a_gpu_of_its_own(client: Redis) -> None:
    """However many come at once; who finds none is told."""
    found = await asyncio.gather(*(take(client, f"consumer-{number}") for number in range(5)))
    assert sorted(one.gpu for one in found if one) == [0, 1, 2, 3]
    assert found.count(None) == 1


async def test_no_gpu_has_two_before_each_has_one(client: Redis) -> None:
    """With two places each, the fifth is the first to share."""
    taken = [await take(client, f"consumer-{number}", per_gpu=2) for number in range(9)]
    assert [one.gpu if one else None for one in taken] == [0, 1, 2, 3, 0, 1, 2, 3, None]


async def test_a_gpu_that_was_asked_for_is_the_one(client: Redis) -> None:
    """And is not replaced by another, though others are free."""
    first, second = await take(client, "first", chosen=2), await take(client, "second", chosen=2)
    assert (first and first.gpu, second) == (2, None)


async def test_a_place_that_is_left_is_the_next_one_s(client: Redis) -> None:
    """At once; leaving a place that another has taken since changes nothing."""
    async with seats(client, "first", chosen=0).taken() as seat:
        assert await take(client, "second", chosen=0) is None
    assert await take(client, "second", chosen=0)
    await seat.leave()
    assert await client.get(key_of(FOUR[0], 0)) == b"second"


async def test_who_was_held_up_for_a_lease_learns_that_it_lost_its_place(client: Redis) -> None:
    """If another has come meanwhile; else it keeps it."""
    held_up = await seats(client, "held up", chosen=1, lease_s=0.05).take()
    assert held_up

    async def expired() -> bool:
        return not await client.exists(key_of(FOUR[1], 0))

    await eventually(expired, "the lease ends")
    assert await held_up.keep()
    await eventually(expired, "the lease ends again")
    assert await take(client, "next", chosen=1)
    assert not await held_up.keep()


def consumer(processes: Processes, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Process:
    monkeypatch.setenv("GPUS", "4")
    given: dict[str, Any] = {"version": 1, "consumers_per_gpu": 1, "lease_s": 4, "redis_timeout_s": 2, **settings}
    return processes.start("tests.support.programs.pretended_gpus", **given)


def gpu_of(process: Process) -> int | None:
    found = re.search(r"took a seat gpu=(\d)", process.text)
    return int(found[1]) if found and process.says("ready consumer=") else None


async def test_one_more_consumer_than_gpus_takes_over_from_one_that_is_killed(
    processes: Processes, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, says so once, and takes the free GPU after the dead one's lease; images are answered throughout."""
    four = [consumer(processes, monkeypatch) for _ in range(4)]
    wait_until(lambda: all(gpu_of(one) is not None for one in four), "four consumers are ready", timeout_s=60)
    assert sorted(gpu_of(one) or 0 for one in four) == [0, 1, 2, 3]
    fifth = consumer(processes, monkeypatch)
    wait_until(lambda: fifth.says("waiting: all places at 4 GPUs are taken, 1 at each"), "the fifth waits")
    images = pictures(64)
    ids = await send(client, images)
    four[2].kill()
    wait_until(lambda: gpu_of(fifth) == gpu_of(four[2]), "the fifth has the GPU of the one that was killed")
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert fifth.text.count("waiting: all places") == 1
    assert four[0].stop() == 0
    sixth = consumer(processes, monkeypatch)
    wait_until(lambda: gpu_of(sixth) == gpu_of(four[0]), "one that left has freed its GPU at once")


def test_a_consumer_that_lost_its_place_is_started_anew(
    processes: Processes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for longer than its lease, and another has come: it exits with 75."""
    first = consumer(processes, monkeypatch, device=3)
    wait_until(lambda: gpu_of(first) == 3, "the first is ready")
    first.send(signal.SIGSTOP)
    second = consumer(processes, monkeypatch, device=3)
    wait_until(lambda: gpu_of(second) == 3, "the second has its place")
    first.send(signal.SIGCONT)
    assert first.wait() == 75
    assert "the place at GPU 3 is another's" in first.text


async def test_a_consumer_that_waits_or_loads_stops_when_it_is_told(
    processes: Processes, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container no signal ends it by itself. A model that is being loaded keeps neither it nor its place."""
    loading = consumer(processes, monkeypatch, device=0, rogue="load for ever")
    wait_until(lambda: loading.says("took a seat gpu=0"), "the first has its place")
    waiting = consumer(processes, monkeypatch, device=0)
    wait_until(lambda: waiting.says("waiting: all places"), "the second waits")
    assert (waiting.stop(), loading.stop()) == (0, 0)
    assert not [key async for key in client.scan_iter("sluice:{all}:seat:*")]


def test_a_gpu_that_is_not_there_is_told(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and status 2; so on a machine without any."""
    many = consumer(processes, monkeypatch, device=4)
    assert many.wait() == 2
    assert "there is no GPU 4: the driver shows 4" in many.text
    none = processes.start("consumers", version=1, device=999)
    assert none.wait() == 2
    assert "there is no GPU 999" in none.text


async def test_on_the_cpu_nobody_takes_a_place(processes: Processes, client: Redis) -> None:
    """There is nothing to share out."""
    processes.consumer(version=1, provider="cpu").ready()
    assert not [key async for key in client.scan_iter("sluice:{all}:seat:*")]


@pytest.mark.gpu
@pytest.mark.skipif(not gpus.visible(), reason="no NVIDIA GPU: the driver (libcuda) is absent or sees none")
def test_a_real_gpu_has_a_name_and_its_place_is_taken(processes: Processes) -> None:
    """By its UUID, which is the same in each container."""
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid) for uuid in gpus.visible())
    assert gpus.name(0) != "unknown"
    process = processes.consumer(version=1, provider="cuda").ready()
    assert f"took a seat gpu=0 uuid={gpus.visible()[0]}" in process.text
