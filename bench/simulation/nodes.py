"""One server against a Cluster of three: the same queue in as many partitions, worked off by the same fleet.

Twice: with all cores of the machine for all, where three servers can be no faster than one once these are busy; and
with a fifth of a core for each server, where its core is the limit, as with servers on machines of their own.
"""

import statistics
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bench.simulation.fleet import Drain, Fleet, drain
from bench.simulation.servers import PRIMARIES

#: Devices so fast that they are not the limit. Without an append-only file, since the machine has one disk for all
#: servers. The queue takes 0.8 GB of memory.
_FLEET = Fleet(6, partitions=PRIMARIES, durable=False, batch_ms=1, images=4800)


@dataclass(frozen=True, slots=True)
class Layer:
    """What images went through the stream layer at, and what each cost: medians of several rounds."""

    servers: int
    throttled: bool
    admitted_per_s: float
    images_per_s: float
    through_per_s: float
    redis_us: float
    consumer_us: float


def compare(folder: Path, *, rounds: int) -> list[Layer]:
    """One and three servers, without and with a throttle."""
    kinds = [replace(_FLEET, primaries=count, throttled=each) for each, count in product((False, True), (1, PRIMARIES))]
    found: dict[Fleet, list[Drain]] = {fleet: [] for fleet in kinds}
    for number in range(rounds):
        # The order turns round each time: what the machine does meanwhile falls on all alike.
        for position, fleet in enumerate(kinds[:: -1 if number % 2 else 1]):
            found[fleet].append(drain(fleet, folder / f"nodes-{number}-{position}"))
    return [_median(fleet, drains) for fleet, drains in found.items()]


def _median(fleet: Fleet, drains: list[Drain]) -> Layer:
    names = ("admitted_per_s", "images_per_s", "through_per_s", "redis_us", "consumer_us")
    figures = {name: statistics.median(getattr(one, name) for one in drains) for name in names}
    return Layer(fleet.primaries, fleet.throttled, **figures)


def gain(layers: list[Layer], *, throttled: bool) -> float:
    """How many times the throughput of one server three have."""
    through = {one.servers: one.through_per_s for one in layers if one.throttled == throttled}
    return through[PRIMARIES] / through[1]
