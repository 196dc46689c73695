"""Ingest in front of pretended GPUs: the CPU that a photograph costs there, decoding and HTTP included."""

import sys
import time
from pathlib import Path
from urllib.parse import quote

from bench import load, photographs, uploads
from bench.full_stream import server
from bench.processes import Processes
from bench.simulation.device import model_name
from bench.systems import free_port, post
from stream.embedded import socket_path

_PATIENCE_S = 60.0


def ingest_us_of_a_photograph(folder: Path, *, seconds: int) -> float:
    """Microseconds of one ingest process for each 500 x 375 JPEG that it answers."""
    with server(folder):
        url = f"unix://{quote(str(socket_path(folder / 'data')))}"
        consumers, ingest, port = Processes(folder / "devices.log"), Processes(folder / "ingest.log"), free_port()
        try:
            options = ["--redis-url", url, "--batch-ms", "5"]
            consumers.start([sys.executable, "-m", "bench.simulation.device", *options], {})
            options = ["--redis-url", url, "--port", str(port), "--workers", "1", "--model", model_name(0)]
            ingest.start([sys.executable, "-m", "ingest", *options], {})
            upload = uploads.form("/predict", photographs.small())
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
