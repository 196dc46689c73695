"""`python -m bench.simulate`: a fleet of pretended GPUs, and what the next limit is. `--long` for more of it.

Consumers are real but for their model, which sleeps for a batch's time (bench/simulation/device.py); so Redis, the
group and ingest are loaded as by many GPUs. A rate ends at this machine's cores; what an image costs does not, and
the plan for up to 100 GPUs is made of that.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.measure import interleaved
from bench.simulation import nodes, plan
from bench.simulation import plots as images
from bench.simulation.fleet import Drain, Fleet, drain
from bench.simulation.ingest import ingest_us_of_a_image
from bench.simulation.nodes import Layer
from bench.simulation.plan import Costs, Prices
from bench.simulation.queue import IngestLayer, Queue, bytes_of_a_queued_image, commands_us_of_an_image
from bench.simulation.servers import PRIMARIES, started
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.keys import Partition
from stream.settings import RedisSettings

_PIXELS = 224 * 224 * 3
_SMALL = 16

_PLAN = ("GPUs", "images/s", "ingest cores", "consumer cores", "servers of Redis", "Gbit/s", "queue, GB", "$ a million")


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(dir=interleaved.scratch()) as name:
        folder = Path(name)
        layers = nodes.compare(folder, rounds=given.nodes or 3)
        _show_nodes(layers)
        if given.nodes:
            return 0
        consumers = _drains("consumers", _consumers(long=given.long, batch_ms=given.batch_ms), folder)
        partitions = _drains("partitions", _partitions(long=given.long), folder)
        backlogs, queued = asyncio.run(_queue(folder / "queue", long=given.long))
        ingest_us = ingest_us_of_a_image(folder / "ingest", seconds=6 if given.long else 3)
    costs = Costs(
        redis_us=statistics.median(one.redis_us for one in consumers),
        consumer_us=statistics.median(one.consumer_us for one in consumers),
        ingest_us=ingest_us,
        network_bytes=max(max(one.bytes_in, one.bytes_out) for one in consumers[:3]),
        queued_bytes=queued,
    )
    _show_targets(consumers, layers, backlogs, queued)
    _show_plan(given, costs)
    given.report.mkdir(parents=True, exist_ok=True)
    found = {
        "nodes": [asdict(one) for one in layers],
        "consumers": [asdict(one) for one in consumers],
        "partitions": [asdict(one) for one in partitions],
        "backlogs": backlogs,
        "costs": asdict(costs),
    }
    (given.report / "simulation.json").write_text(json.dumps(found, indent=1))
    images.draw(
        given.report, consumers=consumers, partitions=partitions, backlogs=dict(sorted(backlogs.items())), costs=costs
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.simulate", description=__doc__)
    add = parser.add_argument
    add("--long", action="store_true", help="1 to 64 consumers, 1 to 8 partitions, a backlog of up to 100,000")
    add("--nodes", type=int, default=0, metavar="ROUNDS", help="only one server of Redis against a Cluster of three")
    add("--batch-ms", type=float, default=100.0, help="of 32 images on a device, for the consumers' plot. Default: 100")
    add("--per-gpu", type=float, default=6127.0, help="images a second of a GPU in the plan. Default: 6127")
    add("--nic", type=float, default=25.0, help="Gbit/s of a server of Redis. Default: 25")
    add("--gpu-price", type=float, default=4.916, help="dollars an hour. Default: 4.916")
    add("--core-price", type=float, default=0.0408, help="dollars an hour of another core. Default: 0.0408")
    add("--report", type=Path, default=Path("bench/report"), help="folder for figures and plots")
    return parser.parse_args()


def _consumers(*, long: bool, batch_ms: float) -> list[Fleet]:
    counts = (1, 2, 4, 8, 16, 32, 64) if long else (1, 2, 4)
    # About 3 s of work, and no more than Redis holds here: 4,800 images are 730 MB.
    return [Fleet(count, batch_ms=batch_ms, images=min(4800, max(800, 1000 * count))) for count in counts]


def _partitions(*, long: bool) -> list[Fleet]:
    return [Fleet(8, partitions=count, batch_ms=200, images=3200) for count in ((1, 2, 4, 8) if long else (1, 8))]


def _drains(title: str, fleets: list[Fleet], folder: Path) -> list[Drain]:
    names = ("partitions", "images/s", "of the devices", "Redis, us", "consumer, us", "MB/s in", "MB/s out")
    _head(title, "consumers", *names)
    found = []
    for number, fleet in enumerate(fleets):
        one = drain(fleet, folder / f"{title}-{number}")
        into, out = one.images_per_s * one.bytes_in / 1e6, one.images_per_s * one.bytes_out / 1e6
        print(f"| {fleet.consumers} | {fleet.partitions} | {one.images_per_s:.0f} | {one.of_the_devices:.0%} "
              f"| {one.redis_us:.0f} | {one.consumer_us:.0f} | {into:.0f} | {out:.0f} |", flush=True)  # fmt: skip
        found.append(one)
    return found


async def _queue(folder: Path, *, long: bool) -> tuple[dict[int, float], float]:
    """Microseconds of Redis's commands for a small image by backlog, and the bytes of a queued image of 224 x 224."""
    with started(folder) as servers:
        settings = RedisSettings(redis_url=servers.redis_url, redis_timeout_s=20)
        redis, reader = connect(settings), Reader(settings)
        queued = await bytes_of_a_queued_image(redis, IngestLayer(redis, Partition("full"), size=224), count=500)
        queues = {}
        for backlog in (100, 1000, 50_000, *((10_000, 100_000) if long else ())):
            queues[backlog] = Queue(redis, reader, Partition(f"backlog-{backlog}"), size=_SMALL)
            await queues[backlog].join()
            await queues[backlog].fill(backlog)
        found = await commands_us_of_an_image(redis, queues, rounds=41 if long else 21)
        await redis.aclose()
        await reader.aclose()
    return {backlog: statistics.median(values) for backlog, values in found.items()}, queued


def _show_nodes(layers: list[Layer]) -> None:
    names = ("images/s through", "MB/s of pixels", "admitted/s", "completed/s", "Redis, us", "consumer, us")
    _head(f"nodes, {PRIMARIES} partitions", "servers", "each has", *names)
    for one in layers:
        figures = (one.admitted_per_s, one.images_per_s, one.redis_us, one.consumer_us)
        print(f"| {one.servers} | {'a fifth of a core' if one.throttled else 'what is free'} | {one.through_per_s:.0f} "
              f"| {one.through_per_s * _PIXELS / 1e6:.0f} | {' | '.join(f'{figure:.0f}' for figure in figures)} |",
              flush=True)  # fmt: skip


def _show_targets(consumers: list[Drain], layers: list[Layer], backlogs: dict[int, float], queued: float) -> None:
    rates = {one.fleet.consumers: one.images_per_s for one in consumers}
    _head("targets", "target", "wanted", "found")
    print(f"| 1 to 4 consumers | at least 3.6 times | {rates[4] / rates[1]:.2f} times |")
    for throttled, of in ((False, "these cores"), (True, "a fifth of a core each")):
        through = nodes.gain(layers, throttled=throttled)
        print(f"| {PRIMARIES} servers over 1, stream layer, with {of} | at least 1 | {through:.2f} |")
    print(f"| Redis's time at 50,000 over 100 | at most 1.10 | {backlogs[50_000] / backlogs[100]:.2f} |")
    print(f"| memory over pixels | at most 1.15 | {queued / _PIXELS:.3f} |")
    _head("backlog", "images that wait", "us of Redis's commands for one")
    for backlog, us in sorted(backlogs.items()):
        print(f"| {backlog:,} | {us:.1f} |")


def _show_plan(given: argparse.Namespace, costs: Costs) -> None:
    print(f"\n{costs}")
    _head("limits", "where one is full", "images/s")
    for part, rate in plan.limits(costs).items():
        print(f"| {part} | {rate:,.0f} |")
    _head("plan", *_PLAN)
    for gpus in (1, 2, 4, 8, 16, 32, 64, 100):
        prices = Prices(given.gpu_price, given.core_price)
        one = plan.need(gpus, given.per_gpu, costs, prices, nic_gbit=given.nic)
        cells = (
            str(one.gpus),
            f"{one.images_per_s:,.0f}",
            str(one.ingest_cores),
            str(one.consumer_cores),
            str(one.redis_servers),
            f"{one.network_gbit_per_s:.1f}",
            f"{one.queue_gb:.1f}",
            f"{one.dollars_per_million:.3f}",
        )
        print(f"| {' | '.join(cells)} |")


def _head(title: str, *names: str) -> None:
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|" + " --- |" * len(names))


if __name__ == "__main__":
    sys.exit(main())
