"""`GET /metrics`: what this ingest counted, and how each model's group stands at this moment. Counts nothing itself."""

import asyncio
import os
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from ingest.metrics import REGISTRY
from results.outcome import Reason
from stream.connection.clients import Connections
from stream.presence import CachedPartitionCounts
from stream.status import Status, read_model


class Scrape:
    """The endpoint. `folder` holds the values of all workers where there are several."""

    def __init__(self, connections: Connections, *, timeout_s: float, folder: Path | None = None) -> None:
        self._connections = connections
        self._timeout_s = timeout_s
        self._counts = CachedPartitionCounts(connections.shared, timeout_s=timeout_s)
        self._folder = folder

    async def __call__(self, _request: Request) -> Response:
        whole = CollectorRegistry()
        whole.register(self._own())
        whole.register(GroupFigures(await self._look()))
        return Response(generate_latest(whole), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _own(self) -> Collector:
        if self._folder is None:
            return REGISTRY
        _forget_the_dead(self._folder)
        return MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]

    async def _look(self) -> list[Status] | None:
        """The status of each model's group; None where Redis does not say it in time."""
        try:
            counts = await self._counts.counts()
            return await asyncio.gather(*(self._read(name, count) for name, count in counts.items()))
        except (RedisError, TimeoutError):
            return None

    async def _read(self, model: str, partitions: int) -> Status:
        return await read_model(self._connections, model, partitions, timeout_s=self._timeout_s)


def _forget_the_dead(folder: Path) -> None:
    """What a worker that was killed had in flight is in flight no more; what it counted stays counted."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(re.sub(r"\D", "", path.stem))
        with suppress(FileNotFoundError):  # Another worker does the same.
            if not _runs(pid):
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class GroupFigures(Collector):
    """The figures of all groups. They are the same at every ingest: take their maximum, never their sum."""

    def __init__(self, groups: list[Status] | None) -> None:
        self._groups = groups

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("sluice_redis_up", "Whether Redis answered this scrape in time.")
        up.add_metric([], self._groups is not None)
        yield up
        groups = self._groups or []
        for name, about, figure in _GAUGES:
            gauge = GaugeMetricFamily(name, about, labels=["model"])
            for group in groups:
                gauge.add_metric([group.model], figure(group))
            yield gauge
        yield from _partitions(groups)
        yield _consumers(groups)
        yield _events(groups)


_GAUGES: tuple[tuple[str, str, Callable[[Status], float]], ...] = (
    ("sluice_backlog_entries", "Images accepted and not completed.", lambda group: group.backlog),
    ("sluice_pending_entries", "Images in consumers' hands.", lambda group: group.pending),
    (
        "sluice_oldest_entry_age_seconds",
        "Age of the oldest image that is not completed; 0 where there is none.",
        lambda group: group.oldest_s or 0.0,
    ),
    ("sluice_dead_letters", "Dead letters that nobody has replayed or dropped.", lambda group: group.dead_letters),
    ("sluice_living_consumers", "Consumers whose heartbeat holds.", lambda group: group.living),
    (
        "sluice_capacity_images_per_second",
        "What the living consumers can do together, at the speed that each measured.",
        lambda group: group.images_per_s,
    ),
)


def _partitions(groups: list[Status]) -> Iterable[Metric]:
    labels = ["model", "partition"]
    up = GaugeMetricFamily("sluice_partition_up", "Whether this partition answered this scrape in time.", labels=labels)
    about = "Images in this partition that were accepted and not completed; missing where it does not answer."
    waiting = GaugeMetricFamily("sluice_partition_backlog_entries", about, labels=labels)
    for group in groups:
        for number, backlog in enumerate(group.backlogs):
            up.add_metric([group.model, str(number)], backlog is not None)
            if backlog is not None:
                waiting.add_metric([group.model, str(number)], backlog)
    return up, waiting


def _consumers(groups: list[Status]) -> Metric:
    about = "Consumers by what they run on and do (idle, running, unloaded); dead ones for ten minutes."
    gauge = GaugeMetricFamily("sluice_consumers", about, labels=["model", "version", "provider", "state"])
    for group in groups:
        tally = Tally(
            (member.report.version, member.report.provider, member.report.state if member.alive else "dead")
            for member in group.members
            if member.report
        )
        for labels, count in tally.items():
            gauge.add_metric([group.model, *labels], count)
    return gauge


#: From zero on: Prometheus cannot see the first of something as an increase.
_EVENTS: Final = ("completed", "superseded", "replayed", *get_args(Reason))


def _events(groups: list[Status]) -> Metric:
    about = "Images by how they ended, over all processes since the data in Redis began."
    counter = CounterMetricFamily("sluice_group_events_total", about, labels=["model", "event"])
    # Without what was counted in a partition that is away it would fall, which Prometheus takes for a new beginning.
    for group in (one for one in groups if not one.away):
        for event in sorted({*_EVENTS, *group.counters}):
            counter.add_metric([group.model, event], group.counters.get(event, 0))
    return counter
