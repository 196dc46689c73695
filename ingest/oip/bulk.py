"""Classifies the images of one inference request, a bounded number at a time.

If the queue is full, an image waits and is tried again as long as others of its request are in flight or answered:
to refuse the request then would throw away finished work. If the queue takes none of them, the request is refused.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from ingest.classification import Classifier, Target
from ingest.dispatch.prepared_image import PreparedImage
from ingest.errors import DeadlinePassed, Overloaded, Problem
from ingest.oip.tensors import Image
from results.outcome import Done

#: Images of one request in flight at once: two of the largest batches, one that runs and one that is read meanwhile.
#: More would not be answered sooner, and would keep other clients waiting.
_MAX_IN_FLIGHT: Final = 64

#: Seconds until an image is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.02
_MAX_PAUSE_S: Final = 1.0


class BulkClassifier:
    """Classifies the images of one request; `timeout_s` bounds all of them together."""

    def __init__(self, classifier: Classifier, target: Target, *, timeout_s: float) -> None:
        self._classifier = classifier
        self._target = target
        self._timeout_s = timeout_s
        self._count = 0
        self._waiting: deque[tuple[int, Image]] = deque()
        self._in_flight = 0
        self._done: dict[int, Done] = {}

    async def classify(self, images: Sequence[Image]) -> list[Done]:
        """All probabilities of each image, in order; raises the Problem of the first that fails."""
        self._count = len(images)
        self._waiting = deque(enumerate(images))
        try:
            async with asyncio.timeout(self._timeout_s), asyncio.TaskGroup() as tasks:
                for _ in range(min(_MAX_IN_FLIGHT, len(images))):
                    tasks.create_task(self._work())
        except TimeoutError as error:
            raise DeadlinePassed(
                f"{len(self._done)} of {len(images)} images were answered within {self._timeout_s:g} s. "
                "Send fewer images in one request."
            ) from error
        except ExceptionGroup as group:
            problems = [error for error in group.exceptions if isinstance(error, Problem)]
            if not problems:
                raise
            raise problems[0] from group
        return [self._done[number] for number in range(len(images))]

    async def _work(self) -> None:
        while self._waiting:
            number, image = self._waiting.popleft()
            self._done[number] = await self._until_taken(number, image)

    async def _until_taken(self, number: int, image: Image) -> Done:
        pause_s = _FIRST_PAUSE_S
        prepared: PreparedImage | None = None
        while True:
            self._in_flight += 1
            try:
                self._target.client.refuse_if_full()
                prepared = prepared or await self._classifier.prepare(image, self._target)
                return await self._send(prepared)
            except Overloaded:
                if not self._worth_another_try:
                    raise
            except Problem as problem:
                if self._count > 1 and problem.status < 503:
                    problem.detail = f"Image {number} (counted from 0): {problem.detail}"
                raise
            finally:
                self._in_flight -= 1
            # The jitter keeps two such requests from trying in step.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (no secret)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    @property
    def _worth_another_try(self) -> bool:
        others = self._in_flight > 1 or bool(self._done)
        return others and self._target.client.model == self._target.model

    async def _send(self, image: PreparedImage) -> Done:
        client, version = self._target.client, self._target.version
        done = await client.classify(self._target.model, image, version=version)
        client.refuse_mixed_versions(version, answered=done.version)
        return done
