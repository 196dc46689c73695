"""All metrics of a consumer, and the endpoint that shows them."""

from bisect import bisect_left
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
from consumers.in_flight import Counts, WorkerState
from stream.connection.metrics import ConnectionMetrics
from stream.keys import PRIORITIES, Priority
from stream.model import ModelDescription

# Prometheus knows when a series began, and these series would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: Bounds in seconds, two or three for each decade: from an empty queue on a fast GPU to the default deadline of 30 s.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Bounds in images: the sizes that batches are padded to, up to the largest `max_batch`.
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

BATCH_IMAGES: Final = Histogram("sluice_batch_images", "Images in a batch.", buckets=_IMAGES, registry=REGISTRY)
BATCH_WAIT_SECONDS: Final = Histogram(
    "sluice_batch_wait_seconds", "Time from a batch's delivery to its inference.", buckets=_SECONDS, registry=REGISTRY
)
INFERENCE_SECONDS: Final = Histogram(
    "sluice_inference_seconds", "Time of one run of the model, for a whole batch.", buckets=_SECONDS, registry=REGISTRY
)


class BatchHistogram(Collector):
    """A histogram of seconds by priority class, which takes a whole batch.

    prometheus_client's takes a lock and two counters per value. Only one thread may observe. A scrape in another thread
    may miss the newest batch.
    """

    def __init__(self, name: str, about: str) -> None:
        self._name = name
        self._about = about
        self._counts = {priority: [0] * (len(_SECONDS) + 1) for priority in PRIORITIES}
        self._sums_s = dict.fromkeys(PRIORITIES, 0.0)

    def observe(self, priority: Priority, times_s: Sequence[float]) -> None:
        counts = self._counts[priority]
        for time_s in times_s:
            counts[bisect_left(_SECONDS, time_s)] += 1
        self._sums_s[priority] += sum(times_s)

    def collect(self) -> Iterable[Metric]:
        bounds = [*map(floatToGoString, _SECONDS), "+Inf"]
        family = HistogramMetricFamily(self._name, self._about, labels=["class"])
        for priority, counts in self._counts.items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric([priority], buckets, self._sums_s[priority])
        yield family


QUEUE_SECONDS: Final = BatchHistogram("sluice_queue_seconds", "Time of one image from its acceptance to its inference.")
REGISTRY.register(QUEUE_SECONDS)
MODEL_LOADS: Final = Counter(
    "sluice_model_loads_total", "Times that the model was loaded and warmed up.", registry=REGISTRY
)
MODEL_CHANGES: Final = Counter(
    "sluice_model_changes_total",
    "Versions that were to replace the served one, by result: changed, or refused because they failed a check.",
    ["result"], registry=REGISTRY,
)  # fmt: skip
REDIS: Final = ConnectionMetrics(REGISTRY)

#: The events of consumers.in_flight.Counts, some of which the heartbeat reports as well. `last_batch` is no event.
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
assert {*_EVENTS, "last_batch"} == {field.name for field in fields(Counts)}


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


def listen(host: str, port: int, health: Health) -> None:
    """Serve metrics and health at http://host:port, in threads that end with the process; raises OSError."""
    server, _ = start_http_server(port, host, REGISTRY)
    metrics = server.get_app()
    assert metrics
    server.set_app(health_app(health, metrics))
