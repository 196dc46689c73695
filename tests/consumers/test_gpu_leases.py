"""GPUs shared among consumers: pretended GPUs, with a real server and real processes."""

import asyncio
import os
import re
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.gpu import devices as gpus
from consumers.gpu.leases import GpuLease, GpuLeases
from stream.keys import gpu_lease as key_of
from tests.support.processes import Process, Processes
from tests.support.redis.requests_direct import assert_right, outcomes, random_images, send
from tests.support.redis.servers import Server
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

FOUR = [f"gpu-{os.getpid()}-{number}" for number in range(4)]


def leases(
    client: Redis, consumer: str, *, per_gpu: int = 1, chosen: int | None = None, lease_s: float = 60
) -> GpuLeases:
    return GpuLeases(client, FOUR, consumer=consumer, lease_s=lease_s, per_gpu=per_gpu, chosen=chosen)


async def acquire(client: Redis, consumer: str, *, per_gpu: int = 1, chosen: int | None = None) -> GpuLease | None:
    return await leases(client, consumer, per_gpu=per_gpu, chosen=chosen).acquire()


async def test_each_consumer_acquires_a_gpu_of_its_own(client: Redis) -> None:
    """However many ask at once; one that finds none free gets None."""
    found = await asyncio.gather(*(acquire(client, f"consumer-{number}") for number in range(5)))
    assert sorted(lease.gpu for lease in found if lease) == [0, 1, 2, 3]
    assert found.count(None) == 1


async def test_no_gpu_has_two_before_each_has_one(client: Redis) -> None:
    """With two leases each, the fifth consumer is the first to share."""
    acquired = [await acquire(client, f"consumer-{number}", per_gpu=2) for number in range(9)]
    assert [lease.gpu if lease else None for lease in acquired] == [0, 1, 2, 3, 0, 1, 2, 3, None]


async def test_a_chosen_gpu_is_the_one(client: Redis) -> None:
    """It is not replaced by another, though others are free."""
    first, second = await acquire(client, "first", chosen=2), await acquire(client, "second", chosen=2)
    assert (first and first.gpu, second) == (2, None)


async def test_a_released_lease_is_free(client: Redis) -> None:
    """At once; releasing a lease that another consumer has acquired since changes nothing."""
    async with leases(client, "first", chosen=0).acquired() as lease:
        assert await acquire(client, "second", chosen=0) is None
    assert await acquire(client, "second", chosen=0)
    await lease.release()
    assert await client.get(key_of(FOUR[0], 0)) == b"second"


async def test_what_is_no_lease_blocks_no_gpu(client: Redis) -> None:
    """Every lease expires, and is a string; whatever else lies under its key gives way."""
    await client.set(key_of(FOUR[0], 0), b"\xff garbage that never expires")
    await client.hset(key_of(FOUR[1], 0), "a", "hash")
    found = [await acquire(client, f"consumer-{number}", chosen=number) for number in (0, 1)]
    assert [lease.gpu if lease else None for lease in found] == [0, 1]


async def test_a_consumer_that_was_held_up_learns_that_it_lost_its_lease(client: Redis) -> None:
    """If another has acquired it meanwhile; otherwise it keeps it."""
    held_up = await leases(client, "held up", chosen=1, lease_s=0.05).acquire()
    assert held_up

    async def expired() -> bool:
        return not await client.exists(key_of(FOUR[1], 0))

    await eventually(expired, "the lease expires")
    assert await held_up.acquire()
    await eventually(expired, "the lease expires again")
    assert await acquire(client, "next", chosen=1)
    assert not await held_up.acquire()


def consumer(processes: Processes, monkeypatch: pytest.MonkeyPatch, **settings: object) -> Process:
    monkeypatch.setenv("GPUS", "4")
    given: dict[str, Any] = {"version": 1, "consumers_per_gpu": 1, "lease_s": 4, "redis_timeout_s": 2, **settings}
    return processes.start("tests.support.programs.pretended_gpus", **given)


def gpu_of(process: Process) -> int | None:
    found = re.search(r"acquired a GPU lease gpu=(\d)", process.text)
    return int(found[1]) if found and process.says("ready consumer=") else None


async def test_one_consumer_too_many_takes_over_from_one_that_is_killed(
    processes: Processes, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, logs that once, and uses the free GPU after the dead one's lease; images are answered throughout."""
    four = [consumer(processes, monkeypatch) for _ in range(4)]
    wait_until(lambda: all(gpu_of(one) is not None for one in four), "four consumers are ready", timeout_s=60)
    assert sorted(gpu_of(one) or 0 for one in four) == [0, 1, 2, 3]
    fifth = consumer(processes, monkeypatch)
    wait_until(
        lambda: fifth.says("waiting for a GPU lease: 4 GPUs with 1 consumers each are all in use"), "the fifth waits"
    )
    images = random_images(64)
    ids = await send(client, images)
    four[2].kill()
    wait_until(lambda: gpu_of(fifth) == gpu_of(four[2]), "the fifth has the GPU of the one that was killed")
    for outcome, image in zip(await outcomes(client, ids), images, strict=True):
        assert_right(outcome, image)
    assert fifth.text.count("waiting for a GPU lease") == 1
    assert four[0].stop() == 0
    sixth = consumer(processes, monkeypatch)
    wait_until(lambda: gpu_of(sixth) == gpu_of(four[0]), "one that left has freed its GPU at once")


def test_a_consumer_that_lost_its_gpu_lease_exits(
    processes: Processes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for longer than its lease, and another has acquired it: it exits with 75."""
    first = consumer(processes, monkeypatch, device=3)
    wait_until(lambda: gpu_of(first) == 3, "the first is ready")
    first.send(signal.SIGSTOP)
    second = consumer(processes, monkeypatch, device=3)
    wait_until(lambda: gpu_of(second) == 3, "the second has its lease")
    first.send(signal.SIGCONT)
    assert first.wait() == 75
    assert "lost the lease of GPU 3" in first.text


async def test_a_consumer_that_waits_or_loads_stops_on_sigterm(
    processes: Processes, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's first process needs a handler for it. Loading a model delays neither the end nor the release."""
    loading = consumer(processes, monkeypatch, device=0, rogue="load for ever")
    wait_until(lambda: loading.says("acquired a GPU lease gpu=0"), "the first has its lease")
    waiting = consumer(processes, monkeypatch, device=0)
    wait_until(lambda: waiting.says("waiting for a GPU lease"), "the second waits")
    assert (waiting.stop(), loading.stop()) == (0, 0)
    assert not [key async for key in client.scan_iter("sluice:{all}:gpu:*")]


def test_a_missing_gpu_is_reported(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and status 2; the same on a machine without any."""
    many = consumer(processes, monkeypatch, device=4)
    assert many.wait() == 2
    assert "there is no GPU 4: the driver shows 4" in many.text
    none = processes.start("consumers", version=1, device=999)
    assert none.wait() == 2
    assert "there is no GPU 999" in none.text


async def test_on_the_cpu_no_consumer_acquires_a_lease(processes: Processes, client: Redis) -> None:
    """There is nothing to share."""
    processes.consumer(version=1, provider="cpu").ready()
    assert not [key async for key in client.scan_iter("sluice:{all}:gpu:*")]


@pytest.mark.gpu
@pytest.mark.skipif(not gpus.visible(), reason="no NVIDIA GPU: the driver (libcuda) is absent or sees none")
def test_a_real_gpu_has_a_name_and_its_lease_is_acquired(processes: Processes) -> None:
    """By its UUID, which is the same in each container."""
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid) for uuid in gpus.visible())
    assert gpus.name(0) != "unknown"
    process = processes.consumer(version=1, provider="cuda").ready()
    assert f"acquired a GPU lease gpu=0 uuid={gpus.visible()[0]}" in process.text
