"""The metrics of an ingest process.

ingest/api/metrics.py adds those that Redis knows, and ingest/api/release_metrics.py those of releases. Those of Redis
connections are in stream/connection/metrics.py. Those of consumers are in consumers/metrics.py, and those of
predictions in consumers/prediction_metrics.py.

If several workers share the port, prometheus_client keeps the values in files of one folder. It reads the folder's
name from the environment when it is first imported. So each worker can respond for all of them.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from stream.connection.metrics import ConnectionMetrics

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
