"""The interleaved: several systems at once, measured in turn, round after round.

Interleaved, so that what the machine does meanwhile falls on all alike; each figure is the median of its rounds.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bench import systems
from bench.measure.load import Sample
from bench.measure.measuring import Measurement, measure
from bench.systems import Running, System, Task

ROUNDS = 3

Load = Callable[[Running], Sample]
K = TypeVar("K")


@contextmanager
def started(chosen: Iterable[System], task: Task, image: bytes, *, left_out: list[str]) -> Iterator[list[Running]]:
    """The systems of these that are installed and start, each of which has answered the image.

    Why the others are not among them is added to `left_out`, in a sentence each.
    """
    running: list[Running] = []
    try:
        for system in chosen:
            try:
                running.append(_start(system, task, image))
            except RuntimeError as error:
                left_out.append(f"{system.name} is left out: {error}")
                say(left_out[-1])
        yield running
    finally:
        for one in running:
            one.processes.stop()


def _start(system: System, task: Task, image: bytes) -> Running:
    if not system.installed:
        raise RuntimeError(f"the package {system.needs} is not installed")
    say(f"starting {system.name} with {task.model}/{task.version}")
    running = systems.start(system, task, image)
    if system.restless:
        running.processes.pause()
    return running


def compare(
    running: Sequence[Running], loads: dict[K, Load], *, rounds: int = ROUNDS
) -> dict[tuple[str, K], list[Measurement]]:
    """Every system under every load, `rounds` times; by system and load."""
    found: dict[tuple[str, K], list[Measurement]] = {}
    for number in range(rounds):
        for name, load in loads.items():
            # Another one begins each time, so that none always follows the same one.
            for one in (*running[number:], *running[:number]):
                found.setdefault((one.system.name, name), []).append(_awake(one, load)[0])
            say(f"round {number + 1} of {rounds}, {name}: " + _summary(running, name, found))
    return found


def _awake(one: Running, load: Load) -> tuple[Measurement, Sample]:
    one.processes.resume()
    try:
        return measure(one, lambda: load(one))
    finally:
        if one.system.restless:
            one.processes.settle()
            one.processes.pause()


def _summary(running: Sequence[Running], name: K, found: dict[tuple[str, K], list[Measurement]]) -> str:
    return ", ".join(f"{one.system.name} {found[one.system.name, name][-1].per_s:.0f}/s" for one in running)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def by_name(names: str) -> list[System]:
    """The systems of a list such as `sluice,mosec`; raises SystemExit with those that there are."""
    known = {system.name: system for system in systems.ALL}
    if unknown := [name for name in names.split(",") if name not in known]:
        raise SystemExit(f"bench: no system {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def scratch() -> Path:
    """Where systems keep their data while they run."""
    folder = Path(".sluice/bench").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
