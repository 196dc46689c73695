"""Portions of a batch on the threads of a session, each portion on one of them. Knows no image.

The threads of one `session.run` wait for each other after every layer, also for one whose core another process has
taken. Portions wait for nobody and share no memory between layers: with 2 threads of an AMD EPYC, portions of 2 make
1.03 (ResNet50, int8) to 1.13 times (EfficientNet-Lite0, int8) what `session.run` on both threads makes at its best.
"""

from collections import deque
from threading import Semaphore

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


class PortionFailed(Exception):
    """ONNX Runtime could not run a portion; the message is its own."""


class Portions:
    """Arrays that a session of one input and one output has yet to run; used once.

    `run_async` runs on a thread of the session's pool. With as many runs as threads nobody is left to take a share of
    another's layers, so each stays where it began; towards the end, a thread with nothing left to do helps the others.
    """

    def __init__(self, session: ort.InferenceSession, portions: list[NDArray[np.uint8]]) -> None:
        self._session = session
        self._input: str = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]
        self._portions = portions
        self._waiting = deque(range(len(portions)))
        self._answers: dict[int, NDArray[np.float32]] = {}
        self._errors: list[str] = []
        self._ended = Semaphore(0)

    def run(self, threads: int) -> NDArray[np.float32]:
        """What the session gives for all of them, joined, with so many of its threads; raises PortionFailed.

        Then, too, nothing reads the arrays any more when this is over.
        """
        helpers = min(threads, len(self._portions)) - 1
        for _ in range(helpers):
            self._help()
        while (index := self._next()) is not None:
            try:
                (self._answers[index],) = self._session.run(self._outputs, self._feed(index))
            except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base)
                self._fail(str(error))
        for _ in range(helpers):
            self._ended.acquire()
        if self._errors:
            raise PortionFailed(self._errors[0])
        return np.concatenate([self._answers[index] for index in range(len(self._portions))])

    def _next(self) -> int | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _feed(self, index: int) -> dict[str, NDArray[np.uint8]]:
        return {self._input: self._portions[index]}

    def _fail(self, error: str) -> None:
        self._errors.append(error)
        self._waiting.clear()

    def _help(self) -> None:
        """Have a thread of the pool run the next one, and go on from there; say so when there is none."""
        if (index := self._next()) is None:
            self._ended.release()
        else:
            self._session.run_async(self._outputs, self._feed(index), self._helped, index)

    def _helped(self, answers: list[NDArray[np.float32]], index: int, error: str) -> None:
        if error:
            self._fail(error)
        else:
            (self._answers[index],) = answers
        self._help()
