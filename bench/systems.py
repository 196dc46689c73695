"""The systems that are compared: how each is started, and what it wants to be sent."""

import http.client
import importlib.util
import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import uploads
from bench.measure.processes import Processes
from bench.measure.uploads import Upload
from stream.embedded.server import server_binary

_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Task:
    """What all systems are started with: the artefact `models_dir/<model>/<version>/model.onnx`."""

    models_dir: Path
    model: str
    version: str
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def artefact(self) -> Path:
        return self.models_dir / self.model / self.version / "model.onnx"


@dataclass(frozen=True, slots=True)
class System:
    """One system. `needs` is the module without which it can't run; `raw`: it takes no forms but the bare body;
    `restless`: it uses a tenth of a core without any request, and is stopped (SIGSTOP) while others are measured."""

    name: str
    about: str
    start: Callable[[Processes, Task, int], None]
    needs: str = ""
    raw: bool = False
    restless: bool = False

    @property
    def installed(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None

    def upload(self, image: bytes) -> Upload:
        if self.raw:
            return uploads.bare("/inference", image)
        return uploads.form("/predict", image)


def _sluice(processes: Processes, task: Task, port: int) -> None:
    # Exactly what `make run` does, with its defaults; the data in a folder of this run.
    environment = {
        "SLUICE_MODELS_DIR": str(task.models_dir),
        "SLUICE_VERSION": task.version,
        "SLUICE_DATA_DIR": str(task.folder / f"sluice-{port}"),
        **task.settings,
    }
    processes.start([sys.executable, "-m", "sluice", "serve", task.model, "--port", str(port)], environment)


def _starlette(workers: int, **settings: str) -> Callable[[Processes, Task, int], None]:
    def start(processes: Processes, task: Task, port: int) -> None:
        options = ["--port", str(port), "--workers", str(workers), "--no-access-log", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", "bench.peers.starlette_app:app", *options]
        processes.start(command, {**_peer(task, port), **settings})

    return start


def _module(module: str, **settings: str) -> Callable[[Processes, Task, int], None]:
    def start(processes: Processes, task: Task, port: int) -> None:
        processes.start([sys.executable, "-m", module], {**_peer(task, port), **settings})

    return start


def _classic(processes: Processes, task: Task, port: int) -> None:
    redis_port = free_port()
    environment = {**_peer(task, port), "BENCH_REDIS_PORT": str(redis_port)}
    options = ["--port", str(redis_port), "--save", "", "--bind", "127.0.0.1", "--dir", str(task.folder)]
    processes.start([str(server_binary()), *options], {})
    processes.start([sys.executable, "-m", "bench.classic.worker"], environment)
    processes.start([sys.executable, "-m", "bench.classic.server"], environment)


def _peer(task: Task, port: int) -> dict[str, str]:
    return {"BENCH_MODEL": str(task.artefact), "BENCH_PORT": str(port)}


_MOSEC = "bench.peers.mosec_app"

#: A peer with the decoder that ingest has.
_FAST = {"BENCH_DECODER": "sluice"}

ALL = (
    System("sluice", "Sluice as `make run` starts it", _sluice),
    System("classic", "Flask, Redis list, polling every 0.25 s", _classic, "flask"),
    System("starlette-fast", "bare Starlette, Sluice's decoder in a thread pool, 1 process", _starlette(1, **_FAST),
           "uvicorn"),
    System("starlette-2-fast", "the same, 2 processes", _starlette(2, **_FAST), "uvicorn"),
    System("mosec-fast", "mosec, raw body, Sluice's decoder in a thread pool", _module(_MOSEC, **_FAST), "mosec",
           raw=True),
    System("starlette", "bare Starlette, Pillow in a thread pool, 1 process", _starlette(1), "uvicorn"),
    System("starlette-2", "the same, 2 processes", _starlette(2), "uvicorn"),
    System("mosec", "mosec, raw body, a batch decoded by Pillow in a thread pool", _module(_MOSEC), "mosec", raw=True),
    System("mosec-draft", "the same with a scaled decode", _module(_MOSEC, BENCH_DECODER="draft"), "mosec", raw=True),
    System("litserve", "LitServe, a batch decoded by Pillow in a thread pool", _module("bench.peers.litserve_app"),
           "litserve", restless=True),
)  # fmt: skip


@dataclass(slots=True)
class Running:
    """A system that answers."""

    system: System
    port: int
    processes: Processes


def start(system: System, task: Task, image: bytes) -> Running:
    """Start it and wait until it has answered one image; raises RuntimeError where it does not."""
    task.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = Processes(task.folder / f"{system.name}-{port}.log")
    system.start(processes, task, port)
    running = Running(system, port, processes)
    try:
        _await_answer(running, system.upload(image))
    except BaseException:
        processes.stop()
        raise
    return running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _await_answer(running: Running, upload: Upload) -> None:
    deadline = time.monotonic() + _START_S
    why = ""
    while time.monotonic() < deadline:
        if not running.processes.running:
            raise RuntimeError(f"{running.system.name} ended: {running.processes.log.read_text()[-2000:]}")
        try:
            status, answer = post(running.port, upload)
        except (OSError, http.client.HTTPException) as error:
            why = str(error)
        else:
            why = f"{status} {answer[:500]!r}"
            if status == 200:
                _check(running, answer)
                return
        time.sleep(0.2)
    raise RuntimeError(f"{running.system.name} does not answer: {why}")


def post(port: int, upload: Upload) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", upload.path, upload.body, {"Content-Type": upload.content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _check(running: Running, answer: bytes) -> None:
    """Five labels, most probable first: else it is not the same work."""
    predictions = json.loads(answer)["predictions"]
    values = [one["probability"] for one in predictions]
    if len(values) != 5 or values != sorted(values, reverse=True):
        raise RuntimeError(f"{running.system.name} answers otherwise than the others: {answer[:500]!r}")
