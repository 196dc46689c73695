"""All metrics that ingest shows: those of its processes, and those that it reads from Redis for all processes.

Consumers declare theirs in consumers/metrics.py. stream/connection/metrics.py declares those of Redis connections,
because both have the same ones.

If several workers share the port, prometheus_client keeps the values in files of one folder. It reads the folder's
name from the environment when it is first imported. So each worker can respond for all of them.
"""

import collections
from collections.abc import Callable, Iterable
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from results.outcome import Reason
from stream.connection.metrics import ConnectionMetrics
from stream.releases import ReleaseStatus
from stream.status.report import ClassStatus, Status

# Prometheus does not need the time at which a series began, and it would double the size of the response.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()

#: Key in a request's scope. The endpoint sets it to the size of the batch in which the request's image ran, an int.
BATCH_SIZE: Final = "sluice.batch"

#: Seconds. From an empty queue on a fast GPU to the default deadline of 30 s, two or three for each decade.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

REQUESTS: Final = Counter(
    "sluice_requests_total", "Requests answered, by route and status.", ["route", "status"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "sluice_request_duration_seconds",
    "Time of a POST with a 2xx response, from its headers to the end of the response.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
PROBLEMS: Final = Counter(
    "sluice_problems_total", "Requests and images that ended with a problem, by its code.", ["code"], registry=REGISTRY
)
_STAGE_SECONDS: Final = Histogram(
    "sluice_stage_duration_seconds",
    "Time of one image in each stage: decode, queue (from acceptance to inference), inference (of its batch), "
    "reply (admission and the way back).",
    ["stage"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge(
    "sluice_images_in_flight",
    "Images whose clients wait for this ingest.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CACHE_LOOKUPS: Final = Counter(
    "sluice_cache_lookups_total", "Images looked up in the cache: hit, miss, or failed where Redis did not answer.",
    ["result"], registry=REGISTRY,
)  # fmt: skip
URL_FETCHES: Final = Counter(
    "sluice_url_fetches_total", "Images asked for by URL: fetched, refused by a rule, or failed.", ["result"],
    registry=REGISTRY,
)  # fmt: skip
REDIS: Final = ConnectionMetrics(REGISTRY)

DECODE: Final = _STAGE_SECONDS.labels("decode")
QUEUE: Final = _STAGE_SECONDS.labels("queue")
INFERENCE: Final = _STAGE_SECONDS.labels("inference")
REPLY: Final = _STAGE_SECONDS.labels("reply")


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
        yield from _releases(groups)


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
        counts = collections.Counter(
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


def _releases(groups: list[Status]) -> Iterable[Metric]:
    """The state and the figures of each model's release; no sample for a model without one.

    They begin again with each release, which Prometheus takes for the reset of a counter.
    """
    share = GaugeMetricFamily(
        "sluice_release_share", "Part of the requests that a version of a release takes.", labels=["model", "version"]
    )
    requests = CounterMetricFamily(
        "sluice_release_requests_total",
        "Requests by the version that they were sent to since the release began; any: no version had a live consumer.",
        labels=["model", "version"],
    )
    fallbacks = CounterMetricFamily(
        "sluice_release_fallbacks_total",
        "Requests and images that went to another version, as the wanted one had no live consumer or a full queue.",
        labels=["model"],
    )
    images = CounterMetricFamily(
        "sluice_shadow_images_total",
        "Images offered to the shadow, by result: agreed or differed (first label), dropped under load, or failed.",
        labels=["model", "result"],
    )
    seconds = CounterMetricFamily(
        "sluice_shadow_seconds_total", "Time of all compared images, from sending to outcome.", labels=["model"]
    )
    largest = GaugeMetricFamily(
        "sluice_shadow_largest_difference",
        "Largest difference of a label's probability, or of a value, between shadow and stable version.",
        labels=["model"],
    )
    for group in groups:
        if group.release is None:
            continue
        for version, part in _shares(group.release).items():
            share.add_metric([group.model, version], part)
        figures = group.release.figures
        for version, count in figures.sent.items():
            requests.add_metric([group.model, version], count)
        fallbacks.add_metric([group.model], figures.fallbacks)
        if not group.release.release.shadow:
            continue
        results = {
            "agreed": figures.agreed,
            "differed": figures.compared - figures.agreed,
            "dropped": figures.dropped,
            "failed": figures.failed,
        }
        for result, count in results.items():
            images.add_metric([group.model, result], count)
        seconds.add_metric([group.model], figures.seconds)
        largest.add_metric([group.model], figures.largest)
    return share, requests, fallbacks, images, seconds, largest


def _shares(status: ReleaseStatus) -> dict[str, float]:
    release = status.release
    shares = {release.stable: 1 - release.share}
    return {**shares, release.candidate: release.share} if release.candidate else shares
