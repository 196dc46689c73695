"""The metrics of releases. They begin again with each release, which Prometheus takes for the reset of a counter."""

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from stream.releases import ReleaseStatus
from stream.status.report import Status


def release_metrics(groups: Iterable[Status]) -> Iterable[Metric]:
    """The state and the figures of each model's release; no sample for a model without one."""
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
