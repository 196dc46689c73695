"""PNG plots of the results. Colours follow the system, in every plot the same."""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.measure.measuring import Measurement
from bench.reporting.results import Results, Row

_COLOURS = {
    "sluice": "#0b6fb8",
    "classic": "#8c8c8c",
    "starlette": "#e0a030",
    "starlette-2": "#b5651d",
    "mosec": "#2a9d5c",
    "starlette-fast": "#f0cf8a",
    "starlette-2-fast": "#d99a6c",
    "mosec-fast": "#1b6e40",
    "mosec-draft": "#7cc8a0",
    "litserve": "#a04fb0",
}

_DPI = 120


def draw(found: Results, folder: Path) -> list[str]:
    """Write the plots for which there are results; returns the names of the files."""
    mpl.use("Agg")
    wanted: list[tuple[str, bool, Callable[[Axes], None]]] = [
        ("throughput.png", bool(found.closed), lambda axes: _throughput(axes, found.closed, "small JPEG")),
        ("latency.png", bool(found.closed), lambda axes: _latency(axes, found.closed)),
        ("cpu.png", bool(found.closed), lambda axes: _cpu(axes, found)),
        ("open-loop.png", bool(found.open_loop), lambda axes: _open(axes, found.open_loop)),
        ("large.png", bool(found.large), lambda axes: _throughput(axes, found.large, "12-megapixel JPEG")),
        ("steady.png", bool(found.steady), lambda axes: _steady(axes, found.steady)),
        ("stages.png", bool(found.stages), lambda axes: _stages(axes, found.stages)),
    ]
    return [_save(folder / name, draw) for name, there, draw in wanted if there]


def _save(path: Path, draw: Callable[[Axes], None]) -> str:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
    return path.name


def _throughput(axes: Axes, rows: list[Row], what: str) -> None:
    _grouped(axes, rows, lambda one: one.per_s)
    axes.set(title=f"Throughput, {what}, closed loop", xlabel="clients", ylabel="requests per second")


def _grouped(axes: Axes, rows: list[Row], value: Callable[[Measurement], float]) -> None:
    systems = list(dict.fromkeys(row.system for row in rows))
    loads = sorted({row.load for row in rows})
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        own = [row for row in rows if row.system == system]
        positions = [loads.index(row.load) + (number - (len(systems) - 1) / 2) * width for row in own]
        axes.bar(positions, [value(row.measured) for row in own], width, label=system, color=_COLOURS.get(system))
    axes.set_xticks(range(len(loads)), [str(load) for load in loads])
    axes.legend(frameon=False, fontsize="small")


def _latency(axes: Axes, rows: list[Row]) -> None:
    """Throughput against p50, a line per system from few clients to many: up and to the left is better."""
    for system in dict.fromkeys(row.system for row in rows):
        own = sorted((row for row in rows if row.system == system), key=lambda row: row.load)
        points = [(row.measured.p50_ms, row.measured.per_s) for row in own]
        axes.plot(*zip(*points, strict=True), marker="o", label=system, color=_COLOURS.get(system))
    axes.set(title="What a throughput costs in latency", xlabel="p50, ms", ylabel="requests per second", xscale="log")
    axes.legend(frameon=False, fontsize="small")


def _cpu(axes: Axes, found: Results) -> None:
    _grouped(axes, found.closed, lambda one: one.cpu_ms)
    for one in found.decoding:
        if (one.how, one.image) == ("full (Pillow)", "small"):
            axes.axhline(one.cpu_ms, color="black", linestyle="--", linewidth=1)
            axes.annotate("a full decode alone", (0, one.cpu_ms), xytext=(2, 3), textcoords="offset points", fontsize=8)
    axes.set(title="CPU per request, all processes and Redis", xlabel="clients", ylabel="ms", yscale="log")


def _open(axes: Axes, rows: list[Row]) -> None:
    for system in dict.fromkeys(row.system for row in rows):
        own = sorted((row for row in rows if row.system == system), key=lambda row: row.load)
        loads = [row.load for row in own if not math.isnan(row.measured.p99_ms)]
        for quantile, style in (("p50_ms", "-"), ("p99_ms", "--")):
            values = [getattr(row.measured, quantile) for row in own if not math.isnan(row.measured.p99_ms)]
            label = f"{system} {quantile.removesuffix('_ms')}"
            axes.plot(loads, values, style, marker="o", label=label, color=_COLOURS.get(system))
    axes.set(title="Open loop", xlabel="share of the system's own capacity, percent", ylabel="ms", yscale="log")
    axes.legend(frameon=False, fontsize="small")


def _steady(axes: Axes, steady: dict[str, list[int]]) -> None:
    for system, counts in steady.items():
        axes.plot(range(1, len(counts) + 1), counts, label=system, color=_COLOURS.get(system))
    axes.set(title="Throughput second by second, 32 clients", xlabel="second", ylabel="requests per second")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def _stages(axes: Axes, stages: dict[int, dict[str, float]]) -> None:
    labels = [str(clients) for clients in stages]
    bottom = [0.0] * len(labels)
    names = [name for name in next(iter(stages.values())) if name not in ("total", "at the client")]
    rest = [one.get("at the client", 0) - sum(one.get(name, 0) for name in names) for one in stages.values()]
    parts = {name: [one.get(name, 0) for one in stages.values()] for name in names}
    for name, values in {**parts, "the rest: HTTP, upload, replies": [max(0.0, value) for value in rest]}.items():
        axes.bar(labels, values, 0.6, bottom=bottom, label=name)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set(title="Where each millisecond goes (medians)", xlabel="clients", ylabel="ms")
    axes.legend(frameon=False, fontsize="small")
