"""Load: a closed or an open loop against one port, by wrk where it is installed, else by bench.measure.generator.

Both run in a process of their own, on the same cores as what they measure: their share is in the throughput of all
systems alike, and not in any system's CPU time.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.processes import ROOT
from bench.measure.uploads import Upload

_LUA = Path(__file__).with_name("post.lua")

#: Time that a load may take beyond what was asked, before it counts as hanging.
_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What one load saw. `requests` were answered with 200 within `seconds`, `refused` with 429 or 503; `stages_ms` are
    medians of the server's own Server-Timing, where it sends one, and `each_second` the answers of each whole second.
    `failures` are the errors by what happened: a status, a lost connection, no answer, or not sent for want of one of
    the connections.
    wrk reads no times, counts no seconds, and takes refusals for errors."""

    requests: int
    seconds: float
    refused: int
    errors: int
    p50_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    each_second: list[int]
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def closed_loop_tool() -> str:
    """What makes the closed loops here, in words for the report."""
    return "wrk" if shutil.which("wrk") else "bench/measure/generator.py (asyncio, uvloop; wrk is not installed)"


def closed(port: int, upload: Upload, *, clients: int, seconds: int) -> Sample:
    """`clients` connections, each sending its next request when the answer has come."""
    with _file(upload.body) as body:
        if not shutil.which("wrk"):
            return _generate(port, upload, body, clients=clients, seconds=seconds)
        return _sample(
            ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(_LUA),
             f"http://127.0.0.1:{port}{upload.path}", "--", upload.content_type, str(body)], seconds
        )  # fmt: skip


def work(port: int, upload: Upload, *, clients: int, requests: int, seconds: float = 120) -> Sample:
    """A fixed amount: `requests` from `clients` connections, timed until the last answer.

    For slow networks: with batches that take a second, what a fixed time holds is a matter of luck.
    """
    with _file(upload.body) as body:
        return _generate(port, upload, body, clients=clients, requests=requests, seconds=seconds)


def observed(port: int, upload: Upload, *, clients: int, seconds: float) -> Sample:
    """A closed loop that also reads Server-Timing."""
    with _file(upload.body) as body:
        return _generate(port, upload, body, clients=clients, seconds=seconds)


def open_loop(
    port: int, upload: Upload, *, rate: float, seconds: float, connections: int = 512, drain_s: float = 10
) -> Sample:
    """Requests due at `rate` per second, come what may; latency counts from when each was due, the wait for one of
    the connections included. The last answers may come `drain_s` after the last request was due."""
    with _file(upload.body) as body:
        return _generate(port, upload, body, rate=rate, seconds=seconds, connections=connections, drain=drain_s)


@contextmanager
def _file(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def _generate(port: int, upload: Upload, body: Path, *, seconds: float, **options: float) -> Sample:
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return _sample(
        [sys.executable, "-m", "bench.measure.generator", "--port", str(port), "--path", upload.path, "--content-type",
         upload.content_type, "--body", str(body), "--seconds", str(seconds), *words], seconds
    )  # fmt: skip


def _sample(command: list[str], seconds: float) -> Sample:
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=seconds + _PATIENCE_S)
    if run.returncode:
        raise RuntimeError(f"{command[0]} failed: {run.stderr or run.stdout}")
    return Sample(**{"stages_ms": {}, "each_second": [], **json.loads(run.stdout.strip().splitlines()[-1])})
