"""The metrics of a consumer, and the endpoint that shows them.

Those of Redis connections are declared in stream/connection/metrics.py, because ingest has the same ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from consumers.batch_size import BatchSizer
from consumers.health import Health, health_app
from consumers.in_flight import BOUNDS_S, Counts, WorkerState
from consumers.predictions import BOUNDS, Predictions
from stream.connection.metrics import ConnectionMetrics
from stream.model import ModelDescription

# Prometheus knows when a series began, and these series would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: Bounds in images: the sizes that batches are padded to, up to the largest `max_batch`.
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

BATCH_IMAGES: Final = Histogram("sluice_batch_images", "Images in a batch.", buckets=_IMAGES, registry=REGISTRY)
BATCH_WAIT_SECONDS: Final = Histogram(
    "sluice_batch_wait_seconds", "Time from a batch's delivery to its inference.", buckets=BOUNDS_S, registry=REGISTRY
)
INFERENCE_SECONDS: Final = Histogram(
    "sluice_inference_seconds", "Time of one run of the model, for a whole batch.", buckets=BOUNDS_S, registry=REGISTRY
)


MODEL_LOADS: Final = Counter(
    "sluice_model_loads_total", "Times that the model was loaded and warmed up.", registry=REGISTRY
)
MODEL_CHANGES: Final = Counter(
    "sluice_model_changes_total",
    "Versions that were to replace the served one, by result: changed, or refused because they failed a check.",
    ["result"], registry=REGISTRY,
)  # fmt: skip
REDIS: Final = ConnectionMetrics(REGISTRY)

#: The events of consumers.in_flight.Counts, some of which the heartbeat reports as well. The others are no events.
_EVENTS: Final = {
    "images": "Images classified.",
    "bulk_images": "Bulk images among the images classified.",
    "batches": "Batches classified.",
    "reclaimed": "Images claimed from consumers that stopped renewing their leases.",
    "superseded": "Outcomes discarded because another consumer had completed the image.",
    "expired": "Images whose deadline passed before their inference.",
    "cancelled": "Images whose request was cancelled before their inference.",
    "failed": "Images on which the model failed.",
    "dead_letters": "Images that became dead letters after max_deliveries.",
}
assert {*_EVENTS, "last_batch", "queue"} == {field.name for field in fields(Counts)}, "each count needs its help here"


class ConsumerCollector(Collector):
    """The counts and the state of a consumer, read at each scrape. `model` gives what it serves, and its provider."""

    def __init__(
        self,
        state: WorkerState,
        held: Callable[[], int],
        sizer: BatchSizer,
        model: Callable[[], tuple[ModelDescription, str]],
    ) -> None:
        self._state = state
        self._held = held
        self._sizer = sizer
        self._model = model

    def collect(self) -> Iterable[Metric]:
        for event, about in _EVENTS.items():
            value = getattr(self._state.counts, event)
            yield CounterMetricFamily(f"sluice_consumer_{event}_total", about, value)
        yield _queue_seconds(self._state.counts)
        held = "Images in flight in this consumer, from delivery to completion."
        yield GaugeMetricFamily("sluice_consumer_held_entries", held, self._held())
        speed = "Images a second that this consumer can classify, at its measured speed."
        yield GaugeMetricFamily("sluice_consumer_images_per_second", speed, self._sizer.images_per_s)
        info = GaugeMetricFamily(
            "sluice_consumer_info", "The model that this consumer serves, and its provider; always 1.",
            labels=["model", "version", "precision", "provider"],
        )  # fmt: skip
        model, provider = self._model()
        info.add_metric([model.name, model.version, model.precision, provider], 1)
        yield info


def _queue_seconds(counts: Counts) -> Metric:
    about = "Time of one image from its acceptance to its inference."
    family = HistogramMetricFamily("sluice_queue_seconds", about, labels=["class"])
    for priority, times in counts.queue.items():
        family.add_metric([priority], _buckets(BOUNDS_S, times.counts), times.sum_s)
    return family


class PredictionCollector(Collector):
    """What a consumer has predicted, read at each scrape."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions

    def collect(self) -> Iterable[Metric]:
        names = ["model", "version"]
        labels = CounterMetricFamily(
            "sluice_predictions_total",
            "Predictions of each label; the first prediction_labels of a version have their names, the rest is other.",
            labels=[*names, "label"],
        )
        confidence = HistogramMetricFamily(
            "sluice_prediction_confidence", "Probability of the most probable label of an image.", labels=names
        )
        entropy = HistogramMetricFamily(
            "sluice_prediction_entropy",
            "Entropy of an image's probabilities: 0 is one certain label, 1 is all labels alike.",
            labels=names,
        )
        for version, seen in self._predictions:
            for label, count in list(seen.labels.items()):
                labels.add_metric([*version, label], count)
            for family, found in ((confidence, seen.confidence), (entropy, seen.entropy)):
                family.add_metric(version, _buckets(BOUNDS, found.counts.tolist()), found.total)
        return labels, confidence, entropy


#: What this consumer has predicted.
PREDICTIONS: Final = Predictions()
REGISTRY.register(PredictionCollector(PREDICTIONS))


def _buckets(bounds: Sequence[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """The buckets of a histogram, from how many values lie up to each of the bounds, and beyond the last one."""
    return list(zip([*map(floatToGoString, bounds), "+Inf"], map(float, accumulate(counts)), strict=True))


def listen(host: str, port: int, health: Health) -> None:
    """Serve metrics and health at http://host:port, in threads that end with the process; raises OSError."""
    server, _ = start_http_server(port, host, REGISTRY)
    metrics = server.get_app()
    assert metrics
    server.set_app(health_app(health, metrics))
