"""The bars: what Sluice has set itself, as ratios within one run on one machine. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.artefacts import FP32, INT8
from bench.fidelity import Difference
from bench.measuring import Measurement
from bench.processes import WORKER
from bench.results import Results, Row, find

#: Systems that Sluice is compared with as its peers, whatever the photograph.
_PEERS = ("starlette", "starlette-2", "mosec", "litserve")


@dataclass(frozen=True, slots=True)
class Bar:
    """`got` must be at least, or at most, `wanted`; NaN where it was not measured."""

    name: str
    wanted: float
    got: float
    how: str
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if math.isnan(self.got):
            return "not measured"
        return "pass" if (self.got <= self.wanted if self.at_most else self.got >= self.wanted) else "FAIL"

    @property
    def sense(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.wanted:g}"


def bars(found: Results) -> list[Bar]:
    """All of them, in the order of the report."""
    return [
        *(_against_best(found.closed, clients, wanted) for clients, wanted in ((8, 1.1), (32, 1.2), (64, 1.2))),
        *_cpu(found),
        _one_client(found),
        *_large(found),
        *_fidelity(found),
        *_networks(found),
        _full_stream(found),
        *_classic(found),
        *_memory(found),
    ]


def _against_best(rows: list[Row], clients: int, wanted: float) -> Bar:
    ours = find(rows, "sluice", clients)
    name, best = _best(rows, clients, _PEERS)
    return Bar(
        f"small JPEG, {clients} clients: throughput over the best peer's",
        wanted,
        _ratio(ours, best, lambda one: one.per_s),
        _both(ours, best, name, lambda one: f"{one.per_s:.0f}/s"),
    )


def _best(rows: list[Row], clients: int, names: Iterable[str]) -> tuple[str, Measurement | None]:
    there = [(name, one) for name in names if (one := find(rows, name, clients)) is not None]
    return max(there, key=lambda pair: pair[1].per_s, default=("", None))


def _cpu(found: Results) -> Iterator[Bar]:
    full = next((one.cpu_ms for one in found.decoding if (one.how, one.photograph) == ("full (Pillow)", "small")), None)
    for clients in (32, 64):
        ours = find(found.closed, "sluice", clients)
        got = ours.cpu_ms / full if ours and full else math.nan
        how = f"{ours.cpu_ms:.2f} ms against {full:.2f} ms" if ours and full else ""
        yield Bar(f"CPU per request at {clients} clients, over a full decode alone", 1.5, got, how, at_most=True)


def _one_client(found: Results) -> Bar:
    ours, theirs = find(found.closed, "sluice", 1), find(found.closed, "starlette", 1)
    got = ours.p50_ms - theirs.p50_ms if ours and theirs else math.nan
    how = _both(ours, theirs, "starlette", lambda one: f"{one.p50_ms:.2f} ms")
    return Bar("1 client: p50 beyond that of bare Starlette, ms", 2.0, got, how, at_most=True)


def _large(found: Results) -> Iterator[Bar]:
    ours = find(found.large, "sluice", 8)
    name, best = _best(found.large, 8, _PEERS)
    draft = find(found.large, "mosec-draft", 8)
    yield Bar(
        "12-megapixel JPEG, 8 clients: over the best peer that decodes in full", 3.0,
        _ratio(ours, best, lambda one: one.per_s), _both(ours, best, name, lambda one: f"{one.per_s:.1f}/s"),
    )  # fmt: skip
    yield Bar(
        "12-megapixel JPEG, 8 clients: over mosec with a scaled decode", 1.2,
        _ratio(ours, draft, lambda one: one.per_s), _both(ours, draft, "mosec-draft", lambda one: f"{one.per_s:.1f}/s"),
    )  # fmt: skip


def _fidelity(found: Results) -> Iterator[Bar]:
    for name in ("decode", "decode, 12 megapixels"):
        one = found.fidelity.get(name)
        how = f"{one.led} of {one.images} photographs; mean change of the first label {one.mean_top:.4f}" if one else ""
        yield Bar(f"{name}: top-1 as the full decode's where that leads by 0.1", 1.0, _of(one, "agreement_led"), how)
        yield Bar(f"{name}: largest change of a probability there", 0.05, _of(one, "largest_led"), how, at_most=True)


def _of(one: Difference | None, field: str) -> float:
    return float(getattr(one, field)) if one and one.led else math.nan


def _networks(found: Results) -> Iterator[Bar]:
    resnet = find(found.networks, "sluice", 32, model=f"resnet50/{FP32}")
    raw = found.raw.get(f"resnet50/{FP32}", math.nan)
    yield Bar(
        "ResNet50 fp32, 32 clients: over the best raw session.run", 0.95, resnet.per_s / raw if resnet else math.nan,
        f"{resnet.per_s:.2f}/s against {raw:.2f}/s" if resnet else "",
    )  # fmt: skip
    for name, wanted in (("resnet50", 2.2), ("efficientnet-lite0", 1.4)):
        small = find(found.networks, "sluice", 32, model=f"{name}/{INT8}")
        large = find(found.networks, "sluice", 32, model=f"{name}/{FP32}")
        how = _both(small, large, "fp32", lambda one: f"{one.per_s:.1f}/s")
        yield Bar(f"{name}: int8 over fp32, 32 clients", wanted, _ratio(small, large, lambda one: one.per_s), how)
        agreed = found.fidelity.get(f"{name} int8")
        how = f"{agreed.images} photographs, none of them used for calibration" if agreed else ""
        yield Bar(f"{name}: int8 top-1 agreement", 0.9, agreed.agreement if agreed else math.nan, how)
        how = f"{agreed.led} photographs" if agreed else ""
        yield Bar(f"{name}: int8 top-1 agreement where fp32 leads by 0.1", 0.99, _of(agreed, "agreement_led"), how)


def _full_stream(found: Results) -> Bar:
    ours, bare = found.full_stream.get("consumer"), found.full_stream.get("bare redis-py loop")
    got = ours / bare if ours and bare else math.nan
    how = f"{ours:.0f}/s against {bare:.0f}/s" if ours and bare else ""
    return Bar("consumer alone on a full stream, over a bare redis-py loop", 0.8, got, how)


def _classic(found: Results) -> Iterator[Bar]:
    ours, theirs = find(found.closed, "sluice", 1), find(found.closed, "classic", 1)
    how = _both(ours, theirs, "classic", lambda one: f"{one.p50_ms:.2f} ms")
    yield Bar("classic design: its p50 over ours, 1 client", 40, _ratio(theirs, ours, lambda one: one.p50_ms), how)
    ours, theirs = find(found.closed, "sluice", 64), find(found.closed, "classic", 64)
    how = _both(ours, theirs, "classic", lambda one: f"{one.per_s:.0f}/s")
    yield Bar(
        "classic design: our throughput over its, 64 clients", 6, _ratio(ours, theirs, lambda one: one.per_s), how
    )


def _memory(found: Results) -> Iterator[Bar]:
    sizes = [found.footprint[kind] for kind in ("ingest", WORKER) if kind in found.footprint]
    yield Bar("ingest: resident MB of one process", 120, max(sizes, default=math.nan), "after the load", at_most=True)
    label, most = max(found.beyond_model.items(), key=lambda pair: pair[1], default=("", math.nan))
    how = f"after the load, {label}" if label else ""
    yield Bar("consumer: resident MB beyond its model's file", 200, most, how, at_most=True)


def _ratio(one: Measurement | None, other: Measurement | None, of: Callable[[Measurement], float]) -> float:
    return of(one) / of(other) if one and other and of(other) else math.nan


def _both(one: Measurement | None, other: Measurement | None, name: str, say: Callable[[Measurement], str]) -> str:
    return f"{say(one)} against {say(other)} ({name})" if one and other else ""
