"""What an ingest process counts and measures. Knows no Redis and no route; the figures of the group are in scrape.py.

Where several workers share the port, prometheus_client keeps the values in files of one folder, which it finds in the
environment when it is first imported: each worker can then answer for all.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from results.outcome import Done
from stream.connection.metrics import Counting

# The time at which a series began says nothing that Prometheus does not know, and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()

#: Seconds. From an empty queue on a fast GPU to the default deadline of 30 s, two or three for each decade.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

REQUESTS: Final = Counter(
    "sluice_requests_total", "HTTP requests answered, by route and status.", ["route", "status"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "sluice_request_duration_seconds",
    "Time of a POST that was answered with 2xx, from its headers to the end of the answer.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
PROBLEMS: Final = Counter(
    "sluice_problems_total", "Requests and images that ended with a problem, by its code.", ["code"], registry=REGISTRY
)
STAGE_SECONDS: Final = Histogram(
    "sluice_stage_duration_seconds",
    "Time of one image in each stage: decode, queue (from acceptance to inference), inference (of its batch), "
    "reply (admission and the way back).",
    ["stage"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge(
    "sluice_images_in_flight",
    "Images that clients of this ingest wait for.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CACHE_LOOKUPS: Final = Counter(
    "sluice_cache_lookups_total", "Images looked up in the cache: hit, miss, or failed where Redis did not answer.",
    ["result"], registry=REGISTRY,
)  # fmt: skip
REDIS: Final = Counting(REGISTRY)

DECODE: Final = STAGE_SECONDS.labels("decode")
_QUEUE: Final = STAGE_SECONDS.labels("queue")
_INFERENCE: Final = STAGE_SECONDS.labels("inference")
_REPLY: Final = STAGE_SECONDS.labels("reply")


def answered(done: Done, *, waited_s: float) -> None:
    """One image was answered, so many seconds after it was offered for admission."""
    queue_s, run_s = done.queue_ms / 1000, done.run_ms / 1000
    _QUEUE.observe(queue_s)
    _INFERENCE.observe(run_s)
    # The queue's part begins with Redis's clock, in whole milliseconds: the rest may come out a little negative.
    _REPLY.observe(max(0.0, waited_s - queue_s - run_s))
