"""Runs decoding workers: processes that can be killed, so that no file costs anyone but its sender.

Workers start when an image needs one, and stop when none has for a while. A pool may keep its first one running.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import ingest
from ingest.errors import DamagedImage, Overloaded
from ingest.images.worker import ERROR, JOB, OUT_OF_TIME, PROBLEMS, READY, REPLY
from stream.model import ModelDescription

logger = logging.getLogger(__name__)

#: Seconds after which an unused worker stops and frees its 40 MB.
_IDLE_S: Final = 60.0

#: Seconds until a worker must have started. It takes 0.2 s if the cores are free.
_START_S: Final = 20.0

#: Weight of the newest image in the mean of real by estimated seconds, and the bounds of that mean.
_NEWEST: Final = 0.1
_LEAST_RATIO, _MOST_RATIO = 0.25, 20.0

#: Even a tiny image takes this long, in seconds.
_LEAST_S: Final = 0.001

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

    async def decode(self, data: bytes, model: ModelDescription) -> bytes:
        """The pixels of the model's input. Raises Problem, WorkerEnded, and OSError if no process can start."""
        process = await self.start()
        try:
            kind, reply = await _exchange(process, _described(model), data)
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
        arguments = map(str, (limits.memory_bytes, limits.cpu_s, limits.max_pixels, self._niceness))
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


async def _exchange(process: Process, description: bytes, data: bytes) -> tuple[bytes, bytes]:
    assert process.stdin
    assert process.stdout
    process.stdin.writelines((JOB.pack(len(description), len(data)), description, data))
    await process.stdin.drain()
    kind, size = REPLY.unpack(await process.stdout.readexactly(REPLY.size))
    return kind, await process.stdout.readexactly(size)


@lru_cache(maxsize=8)
def _described(model: ModelDescription) -> bytes:
    # Decoding needs no labels, and there may be thousands.
    return dataclasses.replace(model, labels=("",)).encode()


class WorkerPool:
    """Some workers, and the images that wait for them: at the measured speed, for at most `limits.wait_s`.

    `keep_one` keeps a worker running, so that no image has to wait until one has started.
    """

    def __init__(self, limits: DecodeLimits, *, workers: int, niceness: int, keep_one: bool = False) -> None:
        self._limits = limits
        self._workers = [Worker(limits, niceness, keep=keep_one and number == 0) for number in range(workers)]
        #: Numbers of the workers that are free. The first of those that run is taken, so that the others may stop.
        self._ready = asyncio.PriorityQueue[int]()
        self._stopped = set(range(workers))
        self._starter: asyncio.Task[OSError | None] | None = None
        self._waiting = 0
        self._pending_s = 0.0
        self._ratio = 1.0

    async def decode(self, data: bytes, model: ModelDescription, estimated_s: float) -> tuple[bytes, float]:
        """The pixels of the model's input, and how many seconds they took, without waiting. Raises Problem."""
        expected_s = self._pending_s * self._ratio / len(self._workers)
        if self._pending_s and expected_s + estimated_s * self._ratio > self._limits.wait_s:
            raise _overloaded(expected_s)
        self._pending_s += estimated_s
        try:
            await self.start()
            async with asyncio.timeout(self._limits.wait_s):
                return await self._run(data, model, estimated_s)
        except TimeoutError:
            raise _overloaded(expected_s) from None
        finally:
            self._pending_s = max(0.0, self._pending_s - estimated_s)

    async def start(self) -> None:
        """Start a worker if none runs. The time for that counts for no image. Raises Overloaded if none can start."""
        if any(worker.is_running for worker in self._workers):
            return
        self._start_another()
        if self._starter and (error := await asyncio.shield(self._starter)):
            raise _no_process(error)

    def _start_another(self) -> None:
        if self._stopped and (self._starter is None or self._starter.done()):
            number = min(self._stopped)
            self._stopped.remove(number)
            self._starter = asyncio.create_task(self._start(number))

    async def _start(self, number: int) -> OSError | None:
        """Start a worker and make it available. Returns why it does not start."""
        try:
            async with asyncio.timeout(_START_S):
                await self._workers[number].start()
        except OSError as error:
            return error
        finally:
            self._release(number)
        return None

    def _release(self, number: int) -> None:
        if self._workers[number].is_running:
            self._ready.put_nowait(number)
        else:
            self._stopped.add(number)
            self._start_if_needed()

    def _start_if_needed(self) -> None:
        if self._waiting and self._ready.empty():
            self._start_another()

    async def _acquire(self) -> int:
        """A free worker that runs. If there is none, another one starts, and whichever is free first is taken."""
        self._waiting += 1
        try:
            self._start_if_needed()
            while not self._workers[number := await self._ready.get()].is_running:
                self._release(number)
            return number
        finally:
            self._waiting -= 1
            self._start_if_needed()

    async def _run(self, data: bytes, model: ModelDescription, estimated_s: float) -> tuple[bytes, float]:
        number = await self._acquire()
        began = time.perf_counter()
        try:
            pixels = await self._with_retry(self._workers[number], data, model)
        except OSError as error:
            raise _no_process(error) from error
        finally:
            self._release(number)
        seconds = time.perf_counter() - began
        ratio = min(max(seconds / max(estimated_s, _LEAST_S), _LEAST_RATIO), _MOST_RATIO)
        self._ratio = (1 - _NEWEST) * self._ratio + _NEWEST * ratio
        return pixels, seconds

    async def _with_retry(self, worker: Worker, data: bytes, model: ModelDescription) -> bytes:
        """Once more if the worker ended: it may have been killed for a reason that is not the image."""
        try:
            return await worker.decode(data, model)
        except WorkerEnded as ended:
            if ended.out_of_time:
                raise self._too_slow() from ended
        try:
            return await worker.decode(data, model)
        except WorkerEnded as ended:
            if ended.out_of_time:
                raise self._too_slow() from ended
            raise DamagedImage("The decoder crashes on this file. Save the image again.") from ended

    def _too_slow(self) -> DamagedImage:
        return DamagedImage(
            f"The image takes over {self._limits.cpu_s:g} s to decode. Scale it down, or save it as a baseline JPEG."
        )

    async def aclose(self) -> None:
        """End all workers."""
        if self._starter:
            self._starter.cancel()
        for worker in self._workers:
            if process := worker.stop():
                await process.wait()


def _no_process(error: OSError) -> Overloaded:
    logger.warning("cannot start a decoding process: %s", error)
    return Overloaded("No decoding process can start. Send the image again later.", retry_after_s=1)


def _overloaded(expected_s: float) -> Overloaded:
    return Overloaded(
        "Images that wait to be decoded would take too long. Send the image again after the time in Retry-After.",
        retry_after_s=max(1.0, expected_s),
    )
