"""The report: tables in Markdown, from the results alone."""

import math
import statistics
from collections.abc import Iterable, Sequence

from bench.reporting.results import Results, Row, find, times
from bench.reporting.targets import Target, targets
from bench.scenarios import SHARES

_CAVEATS = """
- Everything runs on one machine, the load generator included; it takes its share of the same cores from every
  system. Compare the systems with each other, not with figures from elsewhere.
- One image is sent again and again; no system here keeps answers, but the processor's caches are warm.
- CPU per request is user and system time over all processes of a system, its Redis included (/proc), divided by the
  requests that were answered. Requests in flight at the end are in the time but not in the count, which shows where
  few were answered.
- Refused are answers of 429 and 503, which tell a client to come back; wrk counts them among the errors.
- wrk adds to its percentiles what a client with a fixed rhythm would have seen in pauses longer than twice the mean;
  the open loop counts from when each request was due.
- Others' CPU is the share of all cores that neither the system nor the load used: where it is more than a few
  percent, the machine was not left alone, and rates and latencies of that row say little. CPU per request suffers less.
- Each figure is the median of its rounds by itself, so a row need not be one round. A target that compares throughputs
  takes the ratio of each round, in which the machine was as fast for both, and the median of these: it need not be the
  ratio of the two medians beside it. The best peer is the one that is beaten by the least.
- Pace is the time of one full decode by Pillow, just before and just after a round: where it is higher, the machine was
  slower, for whatever reason.
- Peers decode in full with Pillow, those named -fast with Sluice's decoder, mosec-draft scaled with Pillow. All run the
  same artefact in ONNX Runtime. mosec takes the bare file as body, all others a form. The classic design's Redis writes
  no append-only file, Sluice's does.
- Real networks are sent a fixed amount of work, timed from the first request to the last answer; raw session.run
  runs at its best batch size with ONNX Runtime's defaults, in turn with it.
"""


def markdown(found: Results, plots: Iterable[str], *, complete: bool) -> str:
    """The whole report; of one that is not `complete`, only the targets that were measured."""
    shown = [target for target in targets(found) if complete or not math.isnan(target.got)]
    parts = ["# Sluice, measured", table(("", ""), found.about.items())]
    parts += _section("Bars", _targets(shown))
    parts += [f"![{name}]({name})" for name in plots]
    parts += _section("Near-zero network, small JPEG, closed loop", _rows(found.closed, "clients"))
    parts += _section("The same, open loop at shares of each system's own capacity", _open(found))
    parts += _section(
        "Second by second, 32 clients", table(("system", "seconds", "median/s", "least/s"), _steady(found))
    )
    parts += _section("12-megapixel JPEG, closed loop", _rows(found.large, "clients"))
    parts += _section("Where each millisecond goes (Sluice, Server-Timing, medians in ms)", _by_clients(found.stages))
    parts += _section("CPU per request by process (Sluice, under the same load, ms)", _by_clients(found.cpu_by_kind))
    parts += _section("Real networks through Sluice, 32 clients", _networks(found))
    parts += _section("Limits: decoding", _decoding(found))
    parts += _section("Limits: session.run, images per second", _runs(found))
    parts += _section("Limits: a full stream, entries per second", table(("what", "per second"), _rates(found)))
    parts += _section("Fidelity", _fidelity(found))
    parts += _section(
        "Memory",
        table(
            ("process (the largest of its kind)", "resident MB after the load"),
            ((k, f"{v:.0f}") for k, v in found.footprint.items()),
        ),
    )
    parts += _section("Left out", "\n".join(f"- {note}" for note in found.notes))
    parts += _section("Caveats", _CAVEATS.strip())
    return "\n\n".join(parts) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; empty where there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines]) if lines else ""


def _targets(all_: list[Target]) -> str:
    return table(
        ("target", "required", "measured", "", "how"),
        [(one.name, one.sense, _number(one.got), one.verdict, one.how) for one in all_],
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _rows(rows: list[Row], load: str) -> str:
    head = (
        "system",
        load,
        "requests/s",
        "least to most",
        "p50 ms",
        "p99 ms",
        "CPU ms per request",
        "others' CPU",
        "reference ms",
        "refused",
        "errors",
    )
    return table(head, [_row(row) for row in sorted(rows, key=lambda row: row.load)])


def _row(row: Row) -> tuple[str, ...]:
    got = row.measured
    return (row.system, str(row.load), f"{got.per_s:.1f}", _spread(row), f"{got.p50_ms:.2f}", f"{got.p99_ms:.1f}",
            f"{got.cpu_ms:.2f}", f"{got.others:.0%}", _reference(row), str(got.refused), str(got.errors))  # fmt: skip


def _reference(row: Row) -> str:
    """The least and the most of the rounds."""
    return (
        f"{min(row.rounds_reference_ms):.1f} to {max(row.rounds_reference_ms):.1f}" if row.rounds_reference_ms else ""
    )


def _spread(row: Row) -> str:
    return f"{min(row.rounds_per_s):.1f} to {max(row.rounds_per_s):.1f}"


def _steady(found: Results) -> Iterable[tuple[str, ...]]:
    return (
        (system, str(len(counts)), f"{statistics.median(counts):.0f}", str(min(counts)))
        for system, counts in found.steady.items()
        if counts
    )


def _open(found: Results) -> str:
    """One line per system and share: what was due, what was answered, and how late."""
    lines = []
    for system, capacity in found.capacity.items():
        for share in SHARES:
            if row := find(found.open_loop, system, share):
                got = row.measured
                due = f"{capacity * share / 100:.0f}"
                late = (f"{got.p50_ms:.1f}", f"{got.p99_ms:.1f}")
                lines.append((system, f"{share} %", due, f"{got.per_s:.0f}", *late, str(got.refused), str(got.errors)))
    return table(("system", "of capacity", "due/s", "answered/s", "p50 ms", "p99 ms", "refused", "errors"), lines)


def _by_clients(parts: dict[int, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for one in parts.values() for name in one))
    lines = [(str(clients), *(_ms(one.get(name, math.nan)) for name in names)) for clients, one in parts.items()]
    return table(("clients", *names), lines)


def _ms(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _networks(found: Results) -> str:
    lines = [
        (row.model, f"{row.measured.per_s:.1f}", _spread(row),
         f"{statistics.median(found.raw[row.model]):.1f}", f"{times(row.rounds_per_s, found.raw[row.model]):.3f}",
         f"{row.measured.p50_ms:.0f}", f"{row.measured.others:.0%}",
         str(row.measured.refused), str(row.measured.errors))
        for row in found.networks
    ]  # fmt: skip
    head = (
        "network/version",
        "images/s",
        "least to most",
        "raw session.run, images/s",
        "ratio",
        "p50 ms",
        "others' CPU",
        "refused",
        "errors",
    )
    return table(head, lines)


def _decoding(found: Results) -> str:
    lines = [(one.how, one.image, f"{one.cpu_ms:.2f}", f"{one.all_cores_per_s:.0f}") for one in found.decoding]
    ways = table(("how", "image", "CPU ms", "all cores, per second"), lines)
    ceilings = [f"{how}: {rate:.0f}/s" for how, rate in found.ceilings.items()]
    return (
        f"{ways}\n\nWith session.run of the near-zero network, in the same threads: {', '.join(ceilings)}."
        if lines
        else ""
    )


def _runs(found: Results) -> str:
    batches = list(dict.fromkeys(run.batch for run in found.runs))
    models = list(dict.fromkeys(run.model for run in found.runs))
    by = {(run.model, run.batch): run.images_per_s for run in found.runs}
    lines = [(model, *(f"{by[model, batch]:.1f}" for batch in batches)) for model in models]
    return table(("network/version", *(f"batch {batch}" for batch in batches)), lines)


def _rates(found: Results) -> Iterable[tuple[str, str]]:
    return ((name, f"{statistics.median(rates):.0f}") for name, rates in found.full_stream.items())


def _fidelity(found: Results) -> str:
    lines = [
        (name, str(one.images), f"{one.agreement:.3f}", str(one.led), f"{one.agreement_led:.3f}",
         f"{one.largest_led:.4f}", f"{one.mean_top:.4f}")
        for name, one in found.fidelity.items()
    ]  # fmt: skip
    head = ("what", "images", "top-1 agreement", "led by 0.1", "agreement there", "largest change there",
            "mean change of the first label")  # fmt: skip
    return table(head, lines)
