"""Every metric that Sluice declares, as its documents list them. Starts nothing."""

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from consumers import metrics as consumer
from consumers.batch_size import BatchSizer
from consumers.in_flight import WorkerState
from ingest import metrics as ingest
from stream.model import ModelDescription, Resize
from stream.presence import ConsumerReport
from stream.releases import Release, ReleaseFigures, ReleaseStatus
from stream.status.report import ClassStatus, ConsumerStatus, Status

#: One with something in every figure, so that every label is there.
STATUS = Status(
    model="m",
    now_ms=1,
    members=(ConsumerStatus("c", ConsumerReport("c", "host", 1, "1", "CPU", "idle"), 0.0, 1, 2.0, 0.5),),
    backlog=3,
    pending=1,
    oldest_s=2.0,
    dead_letters=1,
    counters={"completed": 7, "dead_letter": 1},
    classes={"interactive": ClassStatus(2, 1, 1.0), "bulk": ClassStatus(1, 0, 2.0)},
    backlogs=(3, None),
    release=ReleaseStatus(Release("1", "2", shadow=True), ReleaseFigures(sent={"1": 1})),
)

FIGURES = consumer.ConsumerCollector(
    WorkerState(),
    lambda: 0,
    BatchSizer(max_batch=32, max_batch_s=1),
    lambda: (ModelDescription("m", "1", "digest", 16, 16, Resize(), ("cat",)), "CPU"),
)

#: (name, type, what it says) for each, by the process that shows it.
Declared = dict[str, dict[str, tuple[str, str]]]


def declared() -> Declared:
    """What ingest and a consumer show of their own, without what prometheus_client says of the process."""
    return {
        "ingest": _named(ingest.REGISTRY, ingest.GroupCollector([STATUS])),
        "consumer": _named(consumer.REGISTRY, FIGURES),
    }


def _named(*collectors: Collector) -> dict[str, tuple[str, str]]:
    families = [family for collector in collectors for family in collector.collect()]
    return {_name(one): (one.type, one.documentation) for one in families if one.name.startswith("sluice_")}


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
