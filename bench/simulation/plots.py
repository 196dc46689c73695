"""PNG plots of a simulation."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.simulation.fleet import Drain
from bench.simulation.plan import Costs, limits

_DPI = 120
_BLUE, _ORANGE, _GREY = "#0b6fb8", "#b5651d", "#8c8c8c"


def draw(
    folder: Path, *, consumers: list[Drain], partitions: list[Drain], backlogs: dict[int, float], costs: Costs
) -> list[str]:
    """Write the plots; returns the names of the files."""
    mpl.use("Agg")
    figure, ((fleet, cpu), (queue, parts)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    _fleet(fleet, consumers)
    _cpu(cpu, consumers, partitions)
    _queue(queue, backlogs)
    _parts(parts, costs)
    for axes in (fleet, cpu, queue, parts):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="both", alpha=0.3)
    figure.savefig(folder / "simulation.png", dpi=_DPI)
    plt.close(figure)
    return ["simulation.png"]


def _fleet(axes: Axes, drains: list[Drain]) -> None:
    counts = [one.fleet.consumers for one in drains]
    devices = [one.images_per_s / one.of_the_devices for one in drains]
    axes.plot(counts, devices, "--", color=_GREY, label="what the devices could do")
    axes.plot(counts, [one.images_per_s for one in drains], marker="o", color=_BLUE, label="what they did")
    axes.set(title="A fleet on one server of Redis", xlabel="consumers", ylabel="images per second", yscale="log")
    axes.set_xscale("log", base=2)
    axes.legend(frameon=False)


def _cpu(axes: Axes, consumers: list[Drain], partitions: list[Drain]) -> None:
    axes.plot([one.fleet.consumers for one in consumers], [one.redis_us for one in consumers], marker="o", color=_BLUE,
              label="consumers, one partition")  # fmt: skip
    axes.plot([one.fleet.partitions for one in partitions], [one.redis_us for one in partitions], marker="s",
              color=_ORANGE, label=f"partitions, {partitions[0].fleet.consumers} consumers")  # fmt: skip
    axes.set(title="CPU of Redis for an image", xlabel="how many", ylabel="microseconds", ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.legend(frameon=False)


def _queue(axes: Axes, backlogs: dict[int, float]) -> None:
    axes.plot(list(backlogs), list(backlogs.values()), marker="o", color=_BLUE)
    axes.set(title="Commands of Redis for an image", xlabel="images that wait", ylabel="microseconds", xscale="log",
             ylim=(0, None))  # fmt: skip


def _parts(axes: Axes, costs: Costs) -> None:
    found = limits(costs)
    axes.barh(list(found), list(found.values()), color=_BLUE)
    axes.set(title="Where one of each part is full", xlabel="images per second", xscale="log")
