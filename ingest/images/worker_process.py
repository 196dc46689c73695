"""One decoding worker: a process that can be killed, with the limits of an image."""

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import ingest
from ingest.images.worker import ERROR, JOB, OUT_OF_TIME, PROBLEMS, READY, REPLY
from stream.model import ModelDescription

#: Seconds after which an unused worker stops and frees its 40 MB.
_IDLE_S: Final = 60.0

#: Bytes of a file that are written at once. A transport copies what the pipe does not take, and others wait for it.
_CHUNK: Final = 2**18

#: Numeric libraries would start a thread per core, and malloc would keep freed memory.
_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
}


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one image may take: pixels, bytes of memory, seconds of CPU, and seconds until it is decoded."""

    max_pixels: int
    memory_bytes: int
    cpu_s: float
    wait_s: float


class WorkerEnded(Exception):
    """The worker has ended while it decoded an image."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the worker ended with status {status}")
        self.out_of_time = status == -OUT_OF_TIME


class Worker:
    """One process, for one image at a time."""

    def __init__(self, limits: DecodeLimits, niceness: int, *, keep: bool) -> None:
        self._limits = limits
        self._niceness = niceness
        self._keep = keep
        self._process: Process | None = None
        self._running = False
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def decode(self, data: bytes, model: ModelDescription, cpu_s: float) -> bytes:
        """The pixels of the model's input. Raises Problem, WorkerEnded, and OSError if no process can start.

        The process ends if that takes more seconds of CPU time than `cpu_s`.
        """
        process = await self.start()
        try:
            kind, reply = await _exchange(process, _described(model), data, cpu_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._process, self._running = None, False
            raise WorkerEnded(await process.wait()) from None
        except BaseException:
            self.stop()  # Its reply would be taken for that of the next image.
            raise
        if not self._keep:
            self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self.stop)
        if kind == ERROR:
            problem = json.loads(reply)
            raise PROBLEMS[problem["error"]](problem["detail"])
        return reply

    @property
    def is_running(self) -> bool:
        """Whether its process can take an image."""
        return self._running

    async def start(self) -> Process:
        """The process, once it can take an image. Raises OSError if it does not start."""
        if self._idle:
            self._idle.cancel()
        async with self._starting:
            if self._process is None:
                await self._start_new()
            assert self._process
            return self._process

    async def _start_new(self) -> None:
        try:
            self._process = await self._new()
            assert self._process.stdout
            await self._process.stdout.readexactly(len(READY))
            self._running = True
        except asyncio.IncompleteReadError as error:
            self._process = None
            raise ChildProcessError("a decoding process has ended at its start") from error
        except BaseException:
            self.stop()
            raise

    async def _new(self) -> Process:
        limits = self._limits
        arguments = map(str, (limits.memory_bytes, limits.max_pixels, self._niceness))
        root = str(Path(next(iter(ingest.__path__))).parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest.images.worker", *arguments,
            stdin=PIPE, stdout=PIPE, env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )  # fmt: skip

    def stop(self) -> Process | None:
        """End the process, whatever it does. Returns it, since it ends only a moment later."""
        if self._idle:
            self._idle.cancel()
        process, self._process, self._running = self._process, None, False
        if process:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return process


async def _exchange(process: Process, description: bytes, data: bytes, cpu_s: float) -> tuple[bytes, bytes]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(JOB.pack(len(description), len(data), cpu_s) + description)
    for start in range(0, len(data), _CHUNK):
        process.stdin.write(memoryview(data)[start : start + _CHUNK])
        await process.stdin.drain()
    kind, size = REPLY.unpack(await process.stdout.readexactly(REPLY.size))
    return kind, await process.stdout.readexactly(size)


@lru_cache(maxsize=8)
def _described(model: ModelDescription) -> bytes:
    # Decoding needs no labels, and there may be thousands.
    return dataclasses.replace(model, labels=("",)).encode()
