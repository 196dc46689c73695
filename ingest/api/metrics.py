"""`GET /metrics`: the metrics of this ingest, and the present state of each model's consumer group."""

import asyncio
import os
import re
from collections import Counter
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

from ingest.api.release_metrics import release_metrics
from ingest.metrics import REGISTRY
from ingest.openapi.operation import DocumentedResponse, Operation
from results.outcome import Reason
from stream.connection.clients import Connections
from stream.presence import CachedPartitionCounts
from stream.status.reader import read_model
from stream.status.report import ClassStatus, Status

METRICS: Final = Operation("Read the metrics", {200: DocumentedResponse("For Prometheus.", media_type="text/plain")})


class MetricsEndpoint:
    """The endpoint. `write` brings the values of this worker up to date.

    `folder` holds the values of all workers if there are several. Those of the others may be a quarter of a second old.
    """

    def __init__(
        self, connections: Connections, write: Callable[[], None], *, timeout_s: float, folder: Path | None = None
    ) -> None:
        self._connections = connections
        self._write = write
        self._timeout_s = timeout_s
        self._counts = CachedPartitionCounts(connections.shared, timeout_s=timeout_s)
        self._folder = folder

    async def __call__(self, _request: Request) -> Response:
        self._write()
        whole = CollectorRegistry()
        whole.register(self._own())
        whole.register(GroupCollector(await self._read_groups()))
        return Response(generate_latest(whole), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _own(self) -> Collector:
        if self._folder is None:
            return REGISTRY
        _remove_dead_workers(self._folder)
        return MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]

    async def _read_groups(self) -> list[Status] | None:
        """The status of each model's group; None if Redis does not answer in time."""
        try:
            counts = await self._counts.counts()
            return await asyncio.gather(*(self._read(name, count) for name, count in counts.items()))
        except (RedisError, TimeoutError):
            return None

    async def _read(self, model: str, partitions: int) -> Status:
        return await read_model(self._connections, model, partitions, timeout_s=self._timeout_s)


def _remove_dead_workers(folder: Path) -> None:
    """Drop the gauges of workers that were killed. Their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(re.sub(r"\D", "", path.stem))
        with suppress(FileNotFoundError):  # another worker does the same
            if not _runs(pid):
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class GroupCollector(Collector):
    """The metrics of all groups. Every ingest reports the same values: aggregate them by maximum, never by sum."""

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
        yield from _classes(groups)
        yield from _partitions(groups)
        yield _consumers(groups)
        yield _events(groups)
        yield from release_metrics(groups)


_GAUGES: tuple[tuple[str, str, Callable[[Status], float]], ...] = (
    ("sluice_backlog_entries", "Images accepted and not completed.", lambda group: group.backlog),
    ("sluice_pending_entries", "Images that consumers have read and not completed.", lambda group: group.pending),
    (
        "sluice_oldest_entry_age_seconds",
        "Age of the oldest image that is not completed; 0 if there is none.",
        lambda group: group.oldest_s or 0.0,
    ),
    ("sluice_dead_letters", "Dead letters that were neither replayed nor dropped.", lambda group: group.dead_letters),
    ("sluice_living_consumers", "Consumers with a current heartbeat.", lambda group: group.living),
    ("sluice_webhooks_waiting", "Webhooks that wait for their delivery.", lambda group: group.sending.webhooks),
    (
        "sluice_webhook_dead_letters",
        "Webhooks that could not be delivered, and were neither replayed nor dropped.",
        lambda group: group.sending.dead_webhooks,
    ),
    ("sluice_webhook_senders", "Senders of webhooks that are alive.", lambda group: group.sending.senders),
    (
        "sluice_capacity_images_per_second",
        "Throughput of all live consumers together, at the speed that each measured.",
        lambda group: group.images_per_s,
    ),
)


_CLASS_GAUGES: tuple[tuple[str, str, Callable[[ClassStatus], float]], ...] = (
    (
        "sluice_class_backlog_entries",
        "Images of a priority class, accepted and not completed.",
        lambda one: one.backlog,
    ),
    (
        "sluice_class_oldest_entry_age_seconds",
        "Age of the oldest image of a priority class that is not completed; 0 if there is none.",
        lambda one: one.oldest_s or 0.0,
    ),
)


def _classes(groups: list[Status]) -> Iterable[Metric]:
    for name, about, figure in _CLASS_GAUGES:
        gauge = GaugeMetricFamily(name, about, labels=["model", "class"])
        for group in groups:
            for priority, status in group.classes.items():
                gauge.add_metric([group.model, priority], figure(status))
        yield gauge


def _partitions(groups: list[Status]) -> Iterable[Metric]:
    labels = ["model", "partition"]
    up = GaugeMetricFamily("sluice_partition_up", "Whether this partition answered this scrape in time.", labels=labels)
    about = "Images in this partition that were accepted and not completed; absent if it does not answer."
    waiting = GaugeMetricFamily("sluice_partition_backlog_entries", about, labels=labels)
    for group in groups:
        for number, backlog in enumerate(group.backlogs):
            up.add_metric([group.model, str(number)], backlog is not None)
            if backlog is not None:
                waiting.add_metric([group.model, str(number)], backlog)
    return up, waiting


def _consumers(groups: list[Status]) -> Metric:
    states = "idle, running, unloaded, leaving"
    about = f"Consumers by version, execution provider and state ({states}); dead ones for ten minutes."
    gauge = GaugeMetricFamily("sluice_consumers", about, labels=["model", "version", "provider", "state"])
    for group in groups:
        counts = Counter(
            (member.report.version, member.report.provider, member.report.state if member.alive else "dead")
            for member in group.members
            if member.report
        )
        for labels, count in counts.items():
            gauge.add_metric([group.model, *labels], count)
    return gauge


#: How attempts to deliver a webhook end; those that only wait for a busy receiver are not counted.
_SENT: Final = ("webhook_delivered", "webhook_failed", "webhook_dead")

#: These are reported as zero before the first one: Prometheus cannot see the first event as an increase.
_EVENTS: Final = ("completed", "superseded", "replayed", "vanished", *get_args(Reason), *_SENT)


def _events(groups: list[Status]) -> Metric:
    about = (
        "Images by how they ended, and attempts to deliver webhooks (webhook_...), over all processes since Redis has "
        "its data."
    )
    counter = CounterMetricFamily("sluice_group_events_total", about, labels=["model", "event"])
    # Without an unavailable partition the sum would fall, which Prometheus takes for a reset.
    for group in (one for one in groups if not one.unavailable):
        for event in sorted({*_EVENTS, *group.counters}):
            counter.add_metric([group.model, event], group.counters.get(event, 0))
    return counter
