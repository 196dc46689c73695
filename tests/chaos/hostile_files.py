"""`python -m tests.chaos.hostile_files`: what the most expensive files cost those who send ordinary images meanwhile.

Ordinary images come at a quarter of the measured capacity, in rounds of four loads: alone; while ten clients send
hostile files; while they send as many bytes as often that are no image, which shows what it costs to receive them; and
while one client sends hostile files, one after the other. At least 50 are sent in each. Exit status 1 if hostile files
more than double the 99th percentile, by the medians of all rounds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from bench import images, models
from bench.measure import load, uploads
from bench.measure.load import Sample
from tests.chaos.server.embedded_server import EmbeddedServer
from tests.support import hostile_images
from tests.support.processes import ROOT, Processes

_CLIENTS = 10
_SHARE = 1 / 4

_ALONE, _TEN, _NO_IMAGES, _ONE = "alone", "ten clients", "ten clients, the same bytes but no image", "one client"


@contextmanager
def _service(folder: Path) -> Iterator[int]:
    """A service with two workers of ingest and a consumer; its port."""
    models.build(folder / "models")
    server = EmbeddedServer(folder)
    server.start()
    try:
        with Processes(folder, redis_url=server.url, models_dir=folder / "models") as started:
            started.consumer(model=models.NAME)
            _, url = started.ingest(model=models.NAME, workers=2)
            yield httpx.URL(url).port or 80
    finally:
        server.kill_all()


class _Sender:
    """A process that sends these files within a block; then the statuses of its responses, and how many in a second."""

    def __init__(self, port: int, clients: int, files: Sequence[Path], per_s: float = 0) -> None:
        words = map(str, (port, clients, per_s, *files))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.sender", *words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout
        self._process.stdout.readline()  # Its start takes a core, and is no file.
        self._began_s = time.monotonic()

    def end(self) -> tuple[Counter[str], float]:
        output, _ = self._process.communicate()
        statuses: Counter[str] = Counter(json.loads(output))
        return statuses, statuses.total() / (time.monotonic() - self._began_s)


@dataclass(frozen=True, slots=True)
class _Load:
    sample: Sample
    statuses: Counter[str]


class _Rounds:
    """Measures one round after the other, each with all loads."""

    def __init__(self, port: int, files: Sequence[Path], no_images: Sequence[Path], seconds: float) -> None:
        self._port = port
        self._files = files
        self._no_images = no_images
        self._seconds = seconds
        self._upload = uploads.form("/predict", images.small())
        self.rate = load.closed(port, self._upload, clients=16, seconds=5).per_s * _SHARE

    def measure(self) -> Iterator[tuple[str, _Load]]:
        yield _ALONE, _Load(self._ordinary(), Counter())
        ten, per_s = self._beside(_Sender(self._port, _CLIENTS, self._files))
        yield _TEN, ten
        yield _NO_IMAGES, self._beside(_Sender(self._port, _CLIENTS, self._no_images, per_s))[0]
        yield _ONE, self._beside(_Sender(self._port, 1, self._files))[0]

    def _ordinary(self) -> Sample:
        return load.open_loop(self._port, self._upload, rate=self.rate, seconds=self._seconds, connections=64)

    def _beside(self, sender: _Sender) -> tuple[_Load, float]:
        sample = self._ordinary()
        statuses, per_s = sender.end()
        return _Load(sample, statuses), per_s


def _written(folder: Path) -> tuple[list[Path], list[Path]]:
    """All hostile files, and as many of the same sizes that are no image. To make them takes a core for 13 seconds."""
    files: list[Path] = []
    no_images: list[Path] = []
    for name, make in hostile_images.ALL.items():
        data = make()
        for paths, content in ((files, data), (no_images, bytes(len(data)))):
            paths.append(folder / f"{name} {len(files)} {len(no_images)}")
            paths[-1].write_bytes(content)
    return files, no_images


def _lines(loads: dict[str, list[_Load]]) -> Iterator[str]:
    yield "| hostile files from | p50 | p99 | p99 of each round | answered | refused | errors | files | responses |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, rounds in loads.items():
        samples = [one.sample for one in rounds]
        statuses = sum((one.statuses for one in rounds), Counter[str]())
        cells = [
            name,
            f"{median(one.p50_ms for one in samples):.1f} ms",
            f"{_p99_ms(rounds):.1f} ms",
            ", ".join(f"{one.p99_ms:.0f}" for one in samples) + " ms",
            *(sum(getattr(one, count) for one in samples) for count in ("requests", "refused", "errors")),
            statuses.total(),
            ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())) or "-",
        ]
        yield f"| {' | '.join(map(str, cells))} |"


def _p99_ms(rounds: list[_Load]) -> float:
    return median(one.sample.p99_ms for one in rounds)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.hostile_files", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of each load")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load is measured")
    given = parser.parse_args()
    loads: dict[str, list[_Load]] = {}
    with tempfile.TemporaryDirectory(prefix="sluice-hostile-") as folder, _service(Path(folder)) as port:
        (Path(folder) / "files").mkdir()
        rounds = _Rounds(port, *_written(Path(folder) / "files"), given.seconds)
        for _ in range(given.rounds):
            for name, one in rounds.measure():
                loads.setdefault(name, []).append(one)
                sys.stderr.write(f"{name}: p99 {one.sample.p99_ms:.0f} ms\n")
    sys.stdout.write("\n".join([f"Ordinary images: {rounds.rate:.0f} a second.", "", *_lines(loads), ""]))
    return 1 if max(_p99_ms(loads[_TEN]), _p99_ms(loads[_ONE])) > 2 * _p99_ms(loads[_ALONE]) else 0


if __name__ == "__main__":
    sys.exit(main())
