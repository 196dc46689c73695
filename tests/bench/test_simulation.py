"""What a queued image costs, by Redis's own counters, and the pieces of bench/simulate.py."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bench.measure.processes import ROOT
from bench.simulation import plan
from bench.simulation import plots as images
from bench.simulation.fleet import Drain, Fleet, work_off
from bench.simulation.plan import Costs, Prices
from bench.simulation.queue import Queue, bytes_of_a_queued_image, commands_us_of_an_image
from bench.simulation.servers import partitions, primary, started
from stream.connection.group_reader import Reader
from stream.keys import GROUP, Partition
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

COSTS = Costs(redis_us=100, consumer_us=200, ingest_us=1000, network_bytes=125_000, queued_bytes=150_000)


async def test_a_queued_image_takes_little_more_than_its_pixels(
    client: Redis, reader: Reader, partition: Partition
) -> None:
    """At most 1.15 times, the mark under its request's id included."""
    taken = await bytes_of_a_queued_image(client, Queue(client, reader, partition, size=224), count=400)
    assert 0.95 < taken / (224 * 224 * 3) <= 1.15


async def test_an_image_costs_redis_as_much_in_a_long_queue_as_in_a_short_one(client: Redis, reader: Reader) -> None:
    """Admitted, delivered and completed behind 100 and behind 10,000: no step walks along the queue.

    A hundred times as many wait. On a busy machine it takes more rounds; `python -m bench.simulate` measures it.
    """
    queues = {}
    for backlog in (100, 10_000):
        queues[backlog] = Queue(client, reader, Partition(f"queue-of-{backlog}"), size=8)
        await queues[backlog].join()
        await queues[backlog].fill(backlog)
    found: dict[int, list[float]] = {backlog: [] for backlog in queues}

    async def costs_as_much() -> bool:
        for backlog, measured in (await commands_us_of_an_image(client, queues, rounds=9)).items():
            found[backlog] += measured
        return min(found[10_000]) < 2 * min(found[100])

    await eventually(costs_as_much, "an image costs as much in both")


async def test_a_fleet_works_off_its_partitions_on_all_primaries_of_a_cluster(tmp_path: Path) -> None:
    """Its consumers are real, though their devices are pretended: each image is completed once, where it was added."""
    fleet = Fleet(4, partitions=3, primaries=3, batch_ms=100, images=960, size=16)
    with started(tmp_path / "redis", 3, durable=False) as servers:
        found = await work_off(fleet, servers, tmp_path)
        for one in partitions(3):
            async with Redis(port=servers.ports[primary(one)]) as redis:
                completed = int(await redis.hget(one.counters, "completed") or 0)
                assert 0 < completed == 320 - await redis.xlen(one.entries)
                assert (await redis.xpending(one.entries, GROUP))["pending"] == 0
    assert 0 < found.through_per_s < min(found.admitted_per_s, found.images_per_s)
    assert min(found.of_the_devices, found.redis_us, found.consumer_us) > 0
    assert min(found.bytes_in, found.bytes_out) > 16 * 16 * 3


def test_partitions_lie_on_the_primaries_as_evenly_as_they_can() -> None:
    """From one to eight of them, whatever their names' hash would have it."""
    for count in range(1, 9):
        held = Counter(primary(one) for one in partitions(count))
        assert sorted(held.values(), reverse=True) == [len(range(first, count, 3)) for first in range(min(count, 3))]


def test_a_throttled_process_is_held_up_and_let_go_in_the_end() -> None:
    """Stopped and continued alternately, until the throttle must end."""
    held = subprocess.Popen(["sleep", "600"])
    throttle = subprocess.Popen([sys.executable, "-m", "bench.simulation.throttle", str(held.pid)], cwd=ROOT)
    try:
        wait_until(lambda: _state(held.pid) == "T", "it is stopped")
        wait_until(lambda: _state(held.pid) != "T", "it has its turn")
        throttle.terminate()
        assert throttle.wait(30) == 0
        wait_until(lambda: _state(held.pid) == "S", "it runs")
    finally:
        for one in (throttle, held):
            one.kill()
            one.wait()


def _state(pid: int) -> str:
    """The letter of proc_pid_stat(5): S sleeps, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_plan_adds_what_is_full_first() -> None:
    """Cores are kept 70 % busy; servers are added for their core or their network, whichever is full first."""
    one = plan.need(10, 1000, COSTS, Prices(gpu=1, core=0.1), nic_gbit=100)
    assert (one.images_per_s, one.ingest_cores, one.consumer_cores, one.redis_servers) == (10_000, 15, 3, 2)
    assert (one.network_gbit_per_s, one.queue_gb) == (10, 3)
    assert one.dollars_per_million == pytest.approx((10 + (15 + 2 * 2) * 0.1) / 36)
    assert plan.need(10, 1000, COSTS, Prices(1, 0.1), nic_gbit=1).redis_servers == 15
    assert list(plan.limits(COSTS, nics_gbit=(1, 100)).values()) == [1000, 1000, 5000, 10_000, 100_000]


def test_a_simulation_is_drawn(tmp_path: Path) -> None:
    """One image of all."""
    drains = [Drain(Fleet(count), 3000, 300.0 * count, 280, 120, 1e5, 1e5) for count in (1, 2, 4)]
    (name,) = images.draw(tmp_path, consumers=drains, partitions=drains, backlogs={1: 50.0, 1000: 51.0}, costs=COSTS)
    assert (tmp_path / name).stat().st_size > 10_000
