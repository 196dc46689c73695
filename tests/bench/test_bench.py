"""The benchmark's pieces work: what it starts answers, what it counts is so, and what it reports is what it found."""

import asyncio
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import redis
from onnx import numpy_helper
from PIL import Image

from bench import images, models, systems
from bench.measure import load, uploads
from bench.measure.full_stream import fill
from bench.measure.processes import Processes
from consumers.batch import entry_of
from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.group import Group
from stream.keys import Partition
from stream.settings import RedisSettings
from tests.support.processes import ROOT
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

UPLOAD = uploads.form("/predict", b"an image")


class Answering:
    """A small HTTP server in a thread, which counts what it is sent."""

    def __init__(self, status: Callable[[int], int], frozen_s: float) -> None:
        self.received: list[bytes] = []
        self.port = 0
        self._status = status
        self._frozen_s = frozen_s
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._thawed = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1")
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not self.received:
                    self._loop.call_later(self._frozen_s, self._thawed.set)
                self.received.append(await reader.readexactly(_length(head)))
                await self._thawed.wait()
                timing = "Server-Timing: decode;dur=1.50, total;dur=2.50"
                status = self._status(len(self.received))
                writer.write(f"HTTP/1.1 {status} X\r\n{timing}\r\nContent-Length: 2\r\n\r\nok".encode())
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()


def _length(head: bytes) -> int:
    return int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])


@contextmanager
def answering(status: Callable[[int], int] = lambda _: 200, *, frozen_s: float = 0.0) -> Iterator[Answering]:
    server = Answering(status, frozen_s)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_the_near_zero_network_answers_as_numpy_does(tmp_path: Path) -> None:
    """Its probabilities are those of the formula, for images that it has never seen."""
    path = models.build(tmp_path)
    (weights,) = (numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer if one.name == "weights")
    images = np.random.default_rng(5).integers(0, 256, (3, 224, 224, 3), np.uint8)
    (found,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    np.testing.assert_allclose(found, models.answer(images, weights), atol=1e-6)


def test_the_images_are_of_the_announced_sizes() -> None:
    """500 x 375 in 65 to 82 KB, and 12 megapixels in about 3.2 MB."""
    small, large = images.small(), images.large()
    assert Image.open(io.BytesIO(small)).size == (500, 375)
    assert 65_000 <= len(small) <= 82_000
    assert Image.open(io.BytesIO(large)).size == (4000, 3000)
    assert 3_000_000 <= len(large) <= 3_400_000


def test_fixed_work_is_counted_to_the_last_answer() -> None:
    """40 requests from 4 clients are 40 at the server, each with the whole form, and the server's times are read."""
    with answering() as server:
        sample = load.work(server.port, UPLOAD, clients=4, requests=40)
        assert server.received == [UPLOAD.body] * 40
    assert (sample.requests, sample.errors) == (40, 0)
    assert sample.stages_ms == {"decode": 1.5, "total": 2.5}


def test_refusals_count_apart_from_errors() -> None:
    """Both are no throughput; 503 and 429 tell a client to come back, 500 does not."""
    with answering(lambda number: (200, 503, 429, 500, 200)[number % 5]) as server:
        sample = load.work(server.port, UPLOAD, clients=1, requests=10)
    assert (sample.requests, sample.refused, sample.errors) == (4, 4, 2)


def test_an_open_loop_counts_refusals_apart_too() -> None:
    """Nothing is counted twice: what was due is answered, refused or an error."""
    with answering(lambda number: (200, 503, 429, 500, 200)[number % 5]) as server:
        sample = load.open_loop(server.port, UPLOAD, rate=50, seconds=0.4)
    assert (sample.requests, sample.refused, sample.errors) == (8, 8, 4)


def test_the_closed_loop_sends_until_the_time_is_over() -> None:
    """By whatever tool there is, all that was answered is counted, but for what was on its way at the end."""
    with answering() as server:
        sample = load.closed(server.port, UPLOAD, clients=2, seconds=1)
        assert 0 <= len(server.received) - sample.requests <= 2
        assert set(server.received) == {UPLOAD.body}
    assert sample.errors == 0


@pytest.mark.parametrize("connections", [1, 512])
def test_open_loop_latency_counts_from_when_a_request_was_due(connections: int) -> None:
    """While the server is frozen requests stay due, sent or not: half of them see it, not just the first one."""
    with answering(frozen_s=0.3) as server:
        sample = load.open_loop(server.port, UPLOAD, rate=100, seconds=0.4, connections=connections)
        assert len(server.received) == 40
    assert sample.requests == 40
    assert sample.p50_ms > 60
    assert sample.p99_ms > 250


@pytest.fixture
def task(tmp_path: Path) -> systems.Task:
    models.build(tmp_path / "models")
    return systems.Task(tmp_path / "models", models.NAME, "1", tmp_path / "run")


@pytest.mark.parametrize("name", ["classic", "starlette", "starlette-fast", "mosec-fast"])
def test_a_system_answers_with_five_labels(task: systems.Task, name: str) -> None:
    """What it is compared with does the work: started as in a run, it classifies the image."""
    (system,) = (one for one in systems.ALL if one.name == name)
    running = systems.start(system, task, images.small())
    try:
        status, answer = systems.post(running.port, system.upload(images.small()))
        assert running.processes.cpu_s() > 0
    finally:
        running.processes.stop()
    assert status == 200
    assert len(json.loads(answer)["predictions"]) == 5


def test_cpu_time_counts_children_that_live_and_that_ended(tmp_path: Path) -> None:
    """A process that lets its children work has used what they used."""
    processes = Processes(tmp_path / "log")
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    wait = "import threading; threading.Event().wait()"
    for ending in ("", wait):
        child = [sys.executable, "-c", burn + ending]
        parent = f"import subprocess\nsubprocess.run({child!r})\n{wait}"
        processes.start([sys.executable, "-c", parent], {})
    wait_until(lambda: processes.cpu_s() >= 0.6, "both have used 0.3 s")
    processes.stop()
    assert processes.pids() == []


@pytest.mark.anyio
async def test_a_full_stream_holds_what_consumers_can_read(server: Server, settings: RedisSettings) -> None:
    """The entries are those that ingest writes: a group reads them all, none malformed."""
    partition = Partition("full")
    with redis.Redis.from_url(server.url) as client:
        fill(client, partition, 3)
    async with connect(settings) as one, Reader(settings) as reader:
        found = await Group(one, reader, partition, consumer="a", lease_s=10).read(32)
    assert [entry_of(delivery).width for delivery in found] == [224] * 3


def test_a_small_run_writes_tables_figures_and_plots(tmp_path: Path) -> None:
    """One system, one load of a second: the report has its row, and the JSON the same number."""
    command = [sys.executable, "-m", "bench.run", "--only", "starlette", "--clients", "2", "--seconds", "1"]
    folders = ["--report", str(tmp_path / "report"), "--models-dir", str(tmp_path / "models")]
    run = subprocess.run([*command, "--rounds", "1", *folders], cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (row,) = json.loads((tmp_path / "report" / "results.json").read_text())["closed"]
    assert f"| starlette | 2 | {row['measured']['per_s']:.1f} |" in (tmp_path / "report" / "report.md").read_text()
    assert row["measured"]["errors"] == 0
    assert row["rounds_reference_ms"] == [row["measured"]["reference_ms"]]
    assert row["measured"]["reference_ms"] > 0
    with Image.open(tmp_path / "report" / "throughput.png") as plot:
        assert plot.format == "PNG"
