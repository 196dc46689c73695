"""Chunks of a batch on the threads of a session, with real sessions of ONNX Runtime."""

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from consumers.onnx.parallel_run import ChunkFailed, ParallelRun
from consumers.onnx.providers import session_options
from tests.support.models import tiny_model
from tests.support.redis.requests_direct import random_images


def session_of(tmp_path: Path, *, threads: int) -> ort.InferenceSession:
    path = tiny_model.build(tmp_path)
    return ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_row_gets_its_own_answer(threads: int, tmp_path: Path) -> None:
    """Whichever thread ran it, with more threads than chunks, fewer and as many, again and again."""
    session = session_of(tmp_path, threads=threads)
    images = random_images(23)
    truth = tiny_model.expected(images, tiny_model.weights())
    for chunks in (1, 2, 3, 5, 23) * 20:
        answers = ParallelRun(session, np.array_split(images, chunks)).run(threads)
        np.testing.assert_allclose(answers, truth, atol=1e-5)


class Counting(ParallelRun):
    """Notes how many chunks were run by other threads than the caller's."""

    helped = 0

    def _on_done(self, outputs: list[NDArray[np.float32]], index: int, error: str) -> None:
        self.helped += 1
        super()._on_done(outputs, index, error)


def test_the_threads_of_the_session_help(tmp_path: Path) -> None:
    """Each of them runs one chunk at least."""
    run = Counting(session_of(tmp_path, threads=3), np.array_split(random_images(6), 3))
    run.run(3)
    assert run.helped >= 2


class Forgetful:
    """A session whose pool forgets its first three tasks until one more is started."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._started = 0
        self._forgotten: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_async(self, *task: Any) -> None:
        """Start this task, after those that were forgotten."""
        self._started += 1
        self._forgotten.append(task)
        while self._started > 3 and self._forgotten:
            self._session.run_async(*self._forgotten.pop(0))


@pytest.mark.parametrize("threads", [2, 4])
def test_a_chunk_that_the_pool_forgot_is_run(threads: int, tmp_path: Path) -> None:
    """The caller waited for it until the consumer ended itself, after inference_timeout_s."""
    images = random_images(40)
    session: Any = Forgetful(session_of(tmp_path, threads=threads))
    run = ParallelRun(session, np.array_split(images, 20))
    answers: list[NDArray[np.float32]] = []
    caller = Thread(target=lambda: answers.append(run.run(threads)), daemon=True)
    caller.start()
    caller.join(30)
    np.testing.assert_allclose(answers, [tiny_model.expected(images, tiny_model.weights())], atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [0, 4, 9])
def test_a_chunk_that_fails_says_why(threads: int, bad: int, tmp_path: Path) -> None:
    """Whichever thread ran it. Chunks that wait then are not run any more, and the session goes on."""
    session = session_of(tmp_path, threads=threads)
    images = np.array_split(random_images(20), 10)
    broken = [*images[:bad], images[bad][:, :15], *images[bad + 1 :]]
    with pytest.raises(ChunkFailed, match="15"):
        ParallelRun(session, broken).run(threads)
    assert len(ParallelRun(session, images).run(threads)) == 20
