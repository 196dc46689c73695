"""What one run of the benchmark found. Written as JSON, from which tables, targets and plots are made."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.fidelity import Difference
from bench.measure.limits import Decoding, Run
from bench.measure.measuring import Measurement


@dataclass(frozen=True, slots=True)
class Row:
    """The median of one system under one load, and the throughput and the machine's reference of each of its rounds.

    `load` is the number of clients (closed loop) or the share of capacity in percent (open loop).
    """

    system: str
    model: str
    image: str
    load: int
    measured: Measurement
    rounds_per_s: tuple[float, ...]
    rounds_reference_ms: tuple[float, ...] = ()


@dataclass(slots=True)
class Results:
    """All parts; those that did not run are empty. Rates are per second."""

    about: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    decoding: list[Decoding] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)  # way of decoding -> images per second, no server
    runs: list[Run] = field(default_factory=list)
    full_stream: dict[str, list[float]] = field(default_factory=dict)  # "bare redis-py loop", "consumer" -> each round
    closed: list[Row] = field(default_factory=list)
    large: list[Row] = field(default_factory=list)
    open_loop: list[Row] = field(default_factory=list)
    steady: dict[str, list[int]] = field(default_factory=dict)  # system -> answers of each second, 32 clients
    capacity: dict[str, float] = field(default_factory=dict)
    stages: dict[int, dict[str, float]] = field(default_factory=dict)  # clients -> stage -> median ms
    cpu_by_kind: dict[int, dict[str, float]] = field(default_factory=dict)  # clients -> process -> ms per request
    networks: list[Row] = field(default_factory=list)  # model is name/version
    raw: dict[str, list[float]] = field(default_factory=dict)  # name/version -> best session.run of each round
    fidelity: dict[str, Difference] = field(default_factory=dict)  # what was compared -> difference
    beyond_model: dict[str, float] = field(default_factory=dict)  # name/version -> consumer's MB beyond its file
    footprint: dict[str, float] = field(default_factory=dict)  # process -> resident MB after the load

    def document(self) -> dict[str, Any]:
        return asdict(self)


def find(rows: list[Row], system: str, load: int, *, model: str = "") -> Row | None:
    """One row, None where it was not measured."""
    for row in rows:
        if (row.system, row.load) == (system, load) and model in ("", row.model):
            return row
    return None


def times(rates: Sequence[float], others: Sequence[float]) -> float:
    """How many times as much, in the median round: what the machine did meanwhile fell on both in a round."""
    return statistics.median(one / other if other else math.inf for one, other in zip(rates, others, strict=True))
