"""Runs the chunks of a batch in parallel on the threads of one ONNX Runtime session, each chunk on one thread.

The threads of one `session.run` wait for each other after every layer, also for a thread whose core another process has
taken. Chunks do not wait for each other and share no memory between layers. With 2 threads of an AMD EPYC, chunks of 2
images give 1.03 (ResNet50, int8) to 1.13 times (EfficientNet-Lite0, int8) the best throughput of `session.run` on both
threads.
"""

import time
from collections import deque
from threading import Semaphore

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from consumers.batch import Buffer


class ChunkFailed(Exception):
    """ONNX Runtime could not run a chunk; the message is its own."""


class ParallelRun:
    """One run of some chunks through a session of one input and one output; used once.

    `run_async` runs on a thread of the session's pool. With as many runs as threads no thread is free to take a share
    of another's layers, so each chunk stays on its thread. Towards the end, threads without a chunk help the others.

    The pool can forget a chunk (ONNX Runtime 1.31, RunQueue in EigenNonBlockingThreadPool.h): a thread that looks for
    work while another takes back the task in front of the chunk takes the queue for empty, and sleeps. Whatever is
    started next wakes it.
    """

    def __init__(self, session: ort.InferenceSession, chunks: list[Buffer]) -> None:
        self._session = session
        self._input: str = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]
        self._chunks = chunks
        self._waiting = deque(range(len(chunks)))
        self._results: dict[int, NDArray[np.float32]] = {}
        self._errors: list[str] = []
        self._ended = Semaphore(0)

    def run(self, threads: int) -> NDArray[np.float32]:
        """The session's output for all chunks, joined, computed on `threads` threads; raises ChunkFailed.

        Once it has returned or raised, nothing reads the chunks any more.
        """
        began_s = time.perf_counter()
        helpers = min(threads, len(self._chunks)) - 1
        for _ in range(helpers):
            self._start_next()
        while (index := self._next()) is not None:
            try:
                (self._results[index],) = self._session.run(self._outputs, self._feed(index))
            except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base)
                self._fail(str(error))
        self._wait_for(helpers, pause_s=time.perf_counter() - began_s)
        if self._errors:
            raise ChunkFailed(self._errors[0])
        return np.concatenate([self._results[index] for index in range(len(self._chunks))])

    def _wait_for(self, helpers: int, *, pause_s: float) -> None:
        """Until they have ended. None needs longer than all before, unless its thread sleeps or has no core."""
        waiting = helpers
        while waiting:
            if self._ended.acquire(timeout=pause_s):
                waiting -= 1
            else:
                # A task for each, since the pool chooses the threads. Nothing may use the session after this run.
                for _ in range(helpers):
                    self._session.run_async(self._outputs, {self._input: self._chunks[0][:0]}, self._on_awake, None)
                waiting += helpers
                pause_s *= 2

    def _on_awake(self, _outputs: object, _data: object, _error: str) -> None:
        self._ended.release()

    def _next(self) -> int | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _feed(self, index: int) -> dict[str, Buffer]:
        return {self._input: self._chunks[index]}

    def _fail(self, error: str) -> None:
        self._errors.append(error)
        self._waiting.clear()

    def _start_next(self) -> None:
        """Start the next chunk on a thread of the pool, or note that this thread has ended because there is none."""
        if (index := self._next()) is None:
            self._ended.release()
        else:
            self._session.run_async(self._outputs, self._feed(index), self._on_done, index)

    def _on_done(self, outputs: list[NDArray[np.float32]], index: int, error: str) -> None:
        if error:
            self._fail(error)
        else:
            (self._results[index],) = outputs
        self._start_next()
