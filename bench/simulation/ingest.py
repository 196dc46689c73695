"""Ingest in front of pretended GPUs: the CPU that an image costs there, decoding and HTTP included."""

import sys
import time
from pathlib import Path

from bench import images
from bench.measure import load, uploads
from bench.measure.processes import Processes
from bench.simulation.servers import started
from bench.systems import free_port, post

_MODEL = "simulated"

_PATIENCE_S = 60.0


def ingest_us_of_a_image(folder: Path, *, seconds: int) -> float:
    """Microseconds of one ingest process for each 500 x 375 JPEG that it answers."""
    with started(folder / "redis") as servers:
        consumers, ingest, port = Processes(folder / "devices.log"), Processes(folder / "ingest.log"), free_port()
        try:
            common = ["--redis-url", servers.redis_url, "--model", _MODEL]
            consumers.start([sys.executable, "-m", "bench.simulation.device", *common, "--batch-ms", "5"], {})
            ingest.start([sys.executable, "-m", "ingest", *common, "--port", str(port), "--workers", "1"], {})
            upload = uploads.form("/predict", images.small())
            _until_answered(port, upload, ingest)
            before = ingest.cpu_s()
            sample = load.closed(port, upload, clients=32, seconds=seconds)
            assert sample.requests, "nothing was answered"
            return (ingest.cpu_s() - before) * 1e6 / sample.requests
        finally:
            ingest.stop()
            consumers.stop()


def _until_answered(port: int, upload: uploads.Upload, ingest: Processes) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert ingest.running, ingest.log.read_text()[-2000:]
        try:
            if post(port, upload)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"ingest does not answer: {ingest.log.read_text()[-2000:]}")
