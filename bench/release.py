"""`python -m bench.release`: releases and a hot change of the version under load, as an operator makes them.

Two versions of a small model answer differently, and each response is compared with what NumPy computes for the
version that it names. The report has the failed requests, the share that a candidate got, and the clients' p99 with and
without a shadow: in rounds that alternate, since other work on the machine changes from minute to minute.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from sluice.release import main as release_command
from tests.ingest.dispatch.test_release import BODIES, SEEDS, assert_answer
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

_SHARE: Final = 0.05

_STEPS: Final = ("set tiny 2 --share 50%", "promote tiny", "rollback tiny", "set tiny 2 --shadow", "clear tiny")

#: Requests between two steps of a release: enough that each state is seen.
_BETWEEN: Final = 100

#: Seconds until every ingest obeys a release, twice over.
_OBEYED_S: Final = 2.0

_PATIENCE_S: Final = 300.0


@dataclass(slots=True)
class Load:
    """What the clients met: versions that answered, seconds of each request, and failures."""

    versions: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def wait_for_more(self, count: int) -> None:
        """Return after so many more requests."""
        until = len(self.latencies_s) + count
        wait_until(lambda: len(self.latencies_s) >= until, f"{count} requests", timeout_s=_PATIENCE_S)

    @property
    def p99_ms(self) -> float:
        return 1000 * float(np.percentile(self.latencies_s, 99))


@contextmanager
def loading(url: str, *, clients: int) -> Iterator[Load]:
    """Send images one after the other from each client, and check each response, until the block ends."""
    load, ended = Load(), threading.Event()

    def send(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not ended.is_set():
                number = (number + 1) % len(BODIES)
                began_s = time.perf_counter()
                try:
                    load.versions[assert_answer(client.post("/predict", content=BODIES[number]), number)] += 1
                except (AssertionError, httpx.HTTPError) as error:
                    load.failures.append(repr(error)[:200])
                load.latencies_s.append(time.perf_counter() - began_s)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()


class Service:
    """Ingest, and a consumer of each of two versions."""

    def __init__(self, processes: Processes, server: Server, *, clients: int) -> None:
        self._server = server
        self._clients = clients
        for version in SEEDS:
            processes.consumer(version=version, provider="cpu")
        _, self._url = processes.ingest()

    def release(self, line: str) -> None:
        """Type `sluice release LINE`, and wait until it is obeyed."""
        assert release_command([*line.split(), "--redis-url", self._server.url]) == 0
        _pause(_OBEYED_S)

    def steps(self) -> Load:
        """Set a share, promote, roll back, shadow and clear under load."""
        with loading(self._url, clients=self._clients) as load:
            for line in _STEPS:
                self.release(line)
                load.wait_for_more(_BETWEEN)
        return load

    def share(self, requests: int) -> Load:
        """A candidate with a share of 5 %."""
        self.release(f"set tiny 2 --share {_SHARE:.0%}")
        with loading(self._url, clients=self._clients) as load:
            load.wait_for_more(requests)
        self.release("clear tiny")
        return load

    def shadow(self, rounds: int, seconds: float) -> tuple[list[Load], list[Load]]:
        """Without and with a shadow, in turns: each pair in the other order. Version 1 alone answers in both."""
        off: list[Load] = []
        on: list[Load] = []
        for number in range(rounds):
            for shadowed in (False, True) if number % 2 else (True, False):
                self.release("set tiny 2 --shadow" if shadowed else "set tiny 2 --share 0.001%")
                with loading(self._url, clients=self._clients) as load:
                    _pause(seconds)
                (on if shadowed else off).append(load)
        self.release("clear tiny")
        return off, on


def _pause(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until_s, "the time has passed", timeout_s=seconds + _PATIENCE_S)


def hot_change(processes: Processes, folder: Path, *, clients: int) -> Load:
    """A consumer that watches its folder gets a broken version 2, then a right one, and then loses it again."""
    models = folder / "watched"
    tiny_model.build(models, version="1", seed=SEEDS["1"])
    consumer = processes.consumer(watch=True, provider="cpu", models_dir=models)
    _, url = processes.ingest()
    made = tiny_model.build(folder / "made", version="2", seed=SEEDS["2"]).read_bytes()
    file = models / "tiny" / "2" / "model.onnx"

    def put(content: bytes) -> None:
        file.parent.mkdir(exist_ok=True)
        (part := file.with_suffix(".part")).write_bytes(content)
        part.replace(file)

    with loading(url, clients=clients) as load:
        load.wait_for_more(_BETWEEN)
        put(made[: len(made) // 2])
        wait_until(lambda: consumer.says("is refused"), "the broken file is refused", timeout_s=_PATIENCE_S)
        put(made)
        _answered_by(load, "2")
        file.unlink()
        file.parent.rmdir()
        _answered_by(load, "1")
    return load


def _answered_by(load: Load, version: str) -> None:
    before = load.versions[version]
    wait_until(lambda: load.versions[version] > before + _BETWEEN, f"version {version} answers", timeout_s=_PATIENCE_S)


def report(name: str, load: Load) -> int:
    """Print what the clients met; the number of failures."""
    counts = ", ".join(f"version {version}: {count}" for version, count in sorted(load.versions.items()))
    _say(f"{name}: {len(load.latencies_s)} requests, {len(load.failures)} failed; {counts}")
    for failure in load.failures[:5]:
        _say(f"  {failure}")
    return len(load.failures)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measure(given: argparse.Namespace, folder: Path) -> int:
    """Run everything; 1 if a target is missed."""
    with serving(folder, "releases") as (processes, server):
        for version, seed in SEEDS.items():
            tiny_model.build(folder / "releases/models", version=version, seed=seed)
        service = Service(processes, server, clients=given.clients)
        failed = report("set, promote, roll back, shadow, clear", service.steps())
        load = service.share(given.requests)
        failed += report("share of 5 %", load)
        share = load.versions["2"] / load.versions.total()
        off, on = service.shadow(given.rounds, given.seconds)
        failed += sum(len(one.failures) for one in (*off, *on))
    with serving(folder, "change") as (processes, _):
        failed += report("hot change, broken and right", hot_change(processes, folder, clients=given.clients))
    ratio = statistics.median(one.p99_ms for one in on) / statistics.median(one.p99_ms for one in off)
    for name, loads in (("without", off), ("with", on)):
        _say(f"p99 {name} a shadow, each round: {', '.join(f'{one.p99_ms:.1f}' for one in loads)} ms")
    _say(f"share {share:.2%}, wanted {_SHARE:.0%}; p99 with a shadow {ratio:.3f} of that without; {failed} failed")
    return int(bool(failed) or abs(share - _SHARE) > 0.007 or ratio > 1.05)


@contextmanager
def serving(folder: Path, name: str) -> Iterator[tuple[Processes, Server]]:
    """A server of its own and processes for one part of the measurement."""
    own = folder / name
    own.mkdir()
    server = Server(own)
    server.start()
    try:
        with Processes(own, redis_url=server.url, models_dir=own / "models") as processes:
            yield processes, server
    finally:
        server.kill()


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.release", description=__doc__)
    parser.add_argument("--clients", type=int, default=4, metavar="N")
    parser.add_argument("--requests", type=int, default=10_000, metavar="N", help="requests while the share is 5 %%")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="pairs of rounds without and with a shadow")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of these rounds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return measure(given, Path(name))


if __name__ == "__main__":
    sys.exit(main())
