"""The targets: what Sluice has set itself, as ratios within one run on one machine. Pure."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.fidelity import Difference
from bench.measure.processes import WORKER
from bench.models import FP32, INT8
from bench.reporting.results import Results, Row, find, times

#: Systems that Sluice is compared with as its peers, whatever the image: those with Pillow, and with the same decoder.
_PEERS = ("starlette", "starlette-2", "mosec", "litserve")
_FAST_PEERS = ("starlette-fast", "starlette-2-fast", "mosec-fast")


@dataclass(frozen=True, slots=True)
class Target:
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


def targets(found: Results) -> list[Target]:
    """All of them, in the order of the report."""
    return [
        *(_against_fast(found.closed, clients, wanted) for clients, wanted in ((8, 0.95), (32, 1.0), (64, 1.0))),
        *(_against_best(found.closed, clients, wanted) for clients, wanted in ((8, 1.3), (32, 1.5), (64, 1.5))),
        *_cpu(found),
        _one_client(found),
        *_steady(found),
        *_large(found),
        *_fidelity(found),
        *_networks(found),
        _full_stream(found),
        *_classic(found),
        *_memory(found),
    ]


def _against_best(rows: list[Row], clients: int, wanted: float) -> Target:
    ours = find(rows, "sluice", clients)
    best = _best(rows, ours, _PEERS)
    return _faster(f"small JPEG, {clients} clients: throughput over the best peer's", wanted, ours, best)


def _against_fast(rows: list[Row], clients: int, wanted: float) -> Target:
    ours = find(rows, "sluice", clients)
    best = _best(rows, ours, _FAST_PEERS)
    return _faster(
        f"peers with Sluice's decoder, {clients} clients: throughput over the best one's", wanted, ours, best
    )


def _best(rows: list[Row], ours: Row | None, names: Iterable[str]) -> Row | None:
    """Whom we beat by the least."""
    there = [one for name in names if ours and (one := find(rows, name, ours.load))]
    return min(there, key=lambda one: _ratio(ours, one), default=None)


def _faster(name: str, wanted: float, ours: Row | None, theirs: Row | None) -> Target:
    return Target(name, wanted, _ratio(ours, theirs), _both(ours, theirs, _per_s))


def _ratio(one: Row | None, other: Row | None) -> float:
    """How many times the throughput of the other one, in the median round."""
    return times(one.rounds_per_s, other.rounds_per_s) if one and other else math.nan


def _per_s(one: Row) -> str:
    per_s = one.measured.per_s
    return f"{per_s:.0f}/s" if per_s >= 100 else f"{per_s:.1f}/s"


def _p50_ms(one: Row) -> str:
    return f"{one.measured.p50_ms:.2f} ms"


def _cpu(found: Results) -> Iterator[Target]:
    full = next((one.cpu_ms for one in found.decoding if (one.how, one.image) == ("full (Pillow)", "small")), None)
    for clients in (32, 64):
        ours = find(found.closed, "sluice", clients)
        got = ours.measured.cpu_ms / full if ours and full else math.nan
        how = f"{ours.measured.cpu_ms:.2f} ms against {full:.2f} ms" if ours and full else ""
        yield Target(f"CPU per request at {clients} clients, over a full decode alone", 1.5, got, how, at_most=True)

    for clients in (32, 64):
        ours, theirs = (find(found.closed, name, clients) for name in ("sluice", "starlette-2-fast"))
        got = ours.measured.cpu_ms / theirs.measured.cpu_ms if ours and theirs else math.nan
        name = f"CPU per request at {clients} clients, over bare Starlette with two processes and Sluice's decoder"
        yield Target(name, 1.15, got, _both(ours, theirs, _cpu_ms), at_most=True)


def _cpu_ms(one: Row) -> str:
    return f"{one.measured.cpu_ms:.2f} ms"


def _one_client(found: Results) -> Target:
    ours, theirs = find(found.closed, "sluice", 1), find(found.closed, "starlette-fast", 1)
    got = ours.measured.p50_ms - theirs.measured.p50_ms if ours and theirs else math.nan
    name = "1 client: p50 beyond that of bare Starlette with Sluice's decoder, ms"
    return Target(name, 1.5, got, _both(ours, theirs, _p50_ms), at_most=True)


def _steady(found: Results) -> Iterator[Target]:
    counts = found.steady.get("sluice")
    got = min(counts) / statistics.median(counts) if counts else math.nan
    how = f"{min(counts)}/s against {statistics.median(counts):.0f}/s over {len(counts)} s" if counts else ""
    yield Target("32 clients, second by second: the least over the median", 0.7, got, how)


def _large(found: Results) -> Iterator[Target]:
    ours = find(found.large, "sluice", 8)
    full, draft = _best(found.large, ours, _PEERS), find(found.large, "mosec-draft", 8)
    yield _faster("12-megapixel JPEG, 8 clients: over the best peer that decodes in full", 3.0, ours, full)
    yield _faster("12-megapixel JPEG, 8 clients: over mosec with a scaled decode", 1.2, ours, draft)


def _fidelity(found: Results) -> Iterator[Target]:
    for name in ("decode", "decode, 12 megapixels"):
        one = found.fidelity.get(name)
        how = f"{one.led} of {one.images} images; mean change of the first label {one.mean_top:.4f}" if one else ""
        yield Target(f"{name}: top-1 as the full decode's where that leads by 0.1", 1.0, _of(one, "agreement_led"), how)
        yield Target(f"{name}: largest change of a probability there", 0.05, _of(one, "largest_led"), how, at_most=True)


def _of(one: Difference | None, field: str) -> float:
    return float(getattr(one, field)) if one and one.led else math.nan


def _networks(found: Results) -> Iterator[Target]:
    resnet = find(found.networks, "sluice", 32, model=f"resnet50/{FP32}")
    raw = found.raw.get(f"resnet50/{FP32}", [])
    got = times(resnet.rounds_per_s, raw) if resnet else math.nan
    how = f"{resnet.measured.per_s:.2f}/s against {statistics.median(raw):.2f}/s" if resnet else ""
    yield Target("ResNet50 fp32, 32 clients: over the best raw session.run", 0.95, got, how)
    for name, wanted in (("resnet50", 2.2), ("efficientnet-lite0", 1.4)):
        small = find(found.networks, "sluice", 32, model=f"{name}/{INT8}")
        large = find(found.networks, "sluice", 32, model=f"{name}/{FP32}")
        yield _faster(f"{name}: int8 over fp32, 32 clients", wanted, small, large)
        agreed = found.fidelity.get(f"{name} int8")
        how = f"{agreed.images} images, none of them used for calibration" if agreed else ""
        yield Target(f"{name}: int8 top-1 agreement", 0.9, agreed.agreement if agreed else math.nan, how)
        how = f"{agreed.led} images" if agreed else ""
        yield Target(f"{name}: int8 top-1 agreement where fp32 leads by 0.1", 0.99, _of(agreed, "agreement_led"), how)


def _full_stream(found: Results) -> Target:
    ours, bare = found.full_stream.get("consumer"), found.full_stream.get("bare redis-py loop")
    got = times(ours, bare) if ours and bare else math.nan
    how = f"{statistics.median(ours):.0f}/s against {statistics.median(bare):.0f}/s" if ours and bare else ""
    return Target("consumer alone on a full stream, over a bare redis-py loop", 0.8, got, how)


def _classic(found: Results) -> Iterator[Target]:
    ours, theirs = find(found.closed, "sluice", 1), find(found.closed, "classic", 1)
    got = theirs.measured.p50_ms / ours.measured.p50_ms if ours and theirs else math.nan
    yield Target("classic design: its p50 over ours, 1 client", 40, got, _both(ours, theirs, _p50_ms))
    ours, theirs = find(found.closed, "sluice", 64), find(found.closed, "classic", 64)
    yield _faster("classic design: our throughput over its, 64 clients", 6, ours, theirs)


def _memory(found: Results) -> Iterator[Target]:
    sizes = [found.footprint[kind] for kind in ("ingest", WORKER) if kind in found.footprint]
    yield Target(
        "ingest: resident MB of one process", 120, max(sizes, default=math.nan), "after the load", at_most=True
    )
    label, most = max(found.beyond_model.items(), key=lambda pair: pair[1], default=("", math.nan))
    how = f"after the load, {label}" if label else ""
    yield Target("consumer: resident MB beyond its model's file", 200, most, how, at_most=True)


def _both(one: Row | None, other: Row | None, say: Callable[[Row], str]) -> str:
    if not one or not other:
        return ""
    return f"{say(one)} against {say(other)} ({other.system if other.system != one.system else other.model})"
