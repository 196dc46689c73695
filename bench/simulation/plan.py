"""Arithmetic: what a fleet of so many GPUs needs, from what one image costs. Knows no measurement."""

from dataclasses import dataclass
from math import ceil

#: No part is planned to be busier than this.
_BUSY = 0.7


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one image: CPU in microseconds, bytes of the network of Redis in its busier direction, bytes while queued."""

    redis_us: float
    consumer_us: float
    ingest_us: float
    network_bytes: float
    queued_bytes: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars an hour, of a GPU with what it needs to compute, and of one core elsewhere with its memory."""

    gpu: float
    core: float


@dataclass(frozen=True, slots=True)
class Need:
    """What so many GPUs need: cores (kept 70 % busy), servers of Redis by their core and by their network, GB."""

    gpus: int
    images_per_s: float
    ingest_cores: int
    consumer_cores: int
    redis_servers: int
    network_gbit_per_s: float
    queue_gb: float
    dollars_per_million: float


def need(gpus: int, per_gpu: float, costs: Costs, prices: Prices, *, nic_gbit: float, queue_s: float = 2.0) -> Need:
    """For GPUs that compute `per_gpu` images a second; a queue of `queue_s` seconds has room."""
    rate = gpus * per_gpu
    ingest, consumers = (ceil(rate * us / 1e6 / _BUSY) for us in (costs.ingest_us, costs.consumer_us))
    network = rate * costs.network_bytes * 8 / 1e9
    servers = max(ceil(rate * costs.redis_us / 1e6 / _BUSY), ceil(network / nic_gbit / _BUSY))
    # A GPU's price has cores for its consumer; a server of Redis has one core for commands and one beside.
    dollars_per_hour = gpus * prices.gpu + (ingest + 2 * servers) * prices.core
    return Need(
        gpus,
        rate,
        ingest,
        consumers,
        servers,
        network,
        rate * queue_s * costs.queued_bytes / 1e9,
        dollars_per_hour / (rate * 3600) * 1e6,
    )


def limits(costs: Costs, *, nics_gbit: tuple[float, ...] = (1, 10, 25, 100)) -> dict[str, float]:
    """Images a second at which one of each part is full, the smallest first."""
    found = {
        "one core of ingest": 1e6 / costs.ingest_us,
        "one core of consumers": 1e6 / costs.consumer_us,
        "one server of Redis: its core": 1e6 / costs.redis_us,
    }
    found |= {f"one server of Redis: {nic:g} Gbit/s": nic * 1e9 / 8 / costs.network_bytes for nic in nics_gbit}
    return dict(sorted(found.items(), key=lambda one: one[1]))
