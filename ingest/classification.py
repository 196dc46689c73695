"""Decodes images and sends them to the consumers of a model: the one way that all endpoints share.

Several images of one request are classified at the same time, and work ends when its client disconnects.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.partition_client import PreparedImage
from ingest.errors import RETRY_S, DeadlinePassed, Overloaded, PreparedForAnother, Problem, redis_errors_as_503
from ingest.images.decoder import Decoder
from ingest.metrics import PROBLEMS
from ingest.request_body import Upload
from ingest.responses import Prediction, Values, prediction
from results.outcome import Done
from results.webhook import Webhook
from stream.keys import Priority
from stream.model import ModelDescription

T = TypeVar("T")

#: An encoded image that must be decoded, or pixels of the model's own size: uint8 [height, width, channels].
Image = Upload | memoryview

#: Most images in one request of an inference protocol. Each becomes an entry, and the response has all of its outputs.
MAX_IMAGES: Final = 1024

#: Images of one request in flight at once: two of the largest batches, one that runs and one that is read meanwhile.
#: More would not be answered sooner, and would keep other clients waiting.
_MAX_IN_FLIGHT: Final = 64

#: How often one image is prepared again because the model was replaced.
_MOST_CHANGES: Final = 3

#: Seconds until an image is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.02
_MAX_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Classified:
    """A prediction, and how long its image took to decode."""

    done: Done
    decode_ms: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the images of a request are classified by: a model as it was when the request came, and `top` classes.

    With `top` 0 the probabilities of all classes are wanted. `version` is the only one that may answer, if it is set.
    Labels below `threshold` are left out of responses. `priority` is the class that the images wait in.
    Only consumers of the version `wanted` take them; empty: all.
    Outcomes are delivered to `webhook_url`, if it is set.
    """

    client: ModelClient
    model: ModelDescription
    top: int = 0
    version: str | None = None
    threshold: float | None = None
    priority: Priority = "interactive"
    wanted: str = ""
    webhook_url: str = ""

    def newest(self) -> "Target":
        """The same for the consumers that are alive now, as far as is known."""
        model, wanted = self.client.route({}, self.version)
        return replace(self, model=model, wanted=wanted)

    async def prediction(self, done: Done) -> Prediction | Values:
        """The response to one image."""
        labels = await self.client.versions.labels_of(done)
        return prediction(done, model=self.client.name, labels=labels, threshold=self.threshold)


class Classifier:
    """Decodes images and has them classified; each method raises a Problem on failure."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def classify(self, image: Image, target: Target) -> Classified:
        """The prediction for one image, encoded or already uint8 [height, width, channels] of the model's size.

        Cancelling this call cancels the work.
        """
        began = time.perf_counter()
        prepared = await self.prepare(image, target)
        decode_ms = (time.perf_counter() - began) * 1000
        return Classified(await self.send(prepared, image, target), decode_ms)

    async def prepare(self, image: Image, target: Target) -> PreparedImage:
        """The image as consumers of the model read it.

        If they are replaced meanwhile, it is prepared again for those that replace them.
        """
        prepared = await self._prepare(image, target)
        for _ in range(_MOST_CHANGES):
            if target.client.versions.takes(prepared.model.preparation):
                break
            prepared = await self.prepare_again(image, target)
        return prepared

    async def prepare_again(self, image: Image, target: Target) -> PreparedImage:
        """The image for the consumers that are alive now. Raises PreparedForAnother if a client's own pixels are not
        theirs."""
        with redis_errors_as_503():
            await target.client.versions.refresh()
        newest = target.newest()
        if not isinstance(image, Upload) and newest.model.shape != target.model.shape:
            raise PreparedForAnother(
                f"The model was replaced by version {newest.model.version}, which takes {newest.model.shape} pixels.",
                retry_after_s=RETRY_S,
            )
        return await self._prepare(image, newest)

    async def _prepare(self, image: Image, target: Target) -> PreparedImage:
        if isinstance(image, Upload):
            if image.problem:
                raise image.problem
            pixels = await self._decoder.decode(image, target.model, target.priority)
        else:
            pixels = bytes(image)
        webhook = Webhook("", target.webhook_url, target.threshold) if target.webhook_url else None
        return PreparedImage(
            target.model, pixels, target.top, self._decoder.remaining_s, target.priority, target.wanted, webhook
        )

    async def send(self, prepared: PreparedImage, image: Image, target: Target) -> Done:
        """The prediction for a prepared image. It is prepared again, from `image`, if another version refuses it."""
        for _ in range(_MOST_CHANGES):
            with suppress(PreparedForAnother):
                return await target.client.classify(prepared, version=target.version)
            prepared = await self.prepare_again(image, target)
        return await target.client.classify(prepared, version=target.version)


class BulkClassifier:
    """Classifies the images of one request, a bounded number at a time; `timeout_s` bounds all of them together.

    If the queue is full, an image waits and is tried again as long as others of its request are in flight or answered:
    to refuse the request then would throw away finished work. If the queue takes none of them, the request is refused.
    """

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
                self._target.client.refuse_if_full(self._target.priority)
                prepared = prepared or await self._classifier.prepare(image, self._target)
                return await self._send(prepared, image)
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
        model = self._target.model
        return others and self._target.client.versions.known(model.version) == model

    async def _send(self, prepared: PreparedImage, image: Image) -> Done:
        done = await self._classifier.send(prepared, image, self._target)
        self._target.client.versions.refuse_other(self._target.version, done.version)
        return done


async def gather_or_problem(work: Iterable[Coroutine[Any, Any, T]]) -> list[T | Problem]:
    """The results in order, with a Problem in place of each that failed.

    If the service failed for every image (5xx), the request fails: the first of these problems is raised.
    """

    async def result_or_problem(one: Coroutine[Any, Any, T]) -> T | Problem:
        try:
            return await one
        except Problem as problem:
            return problem

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(result_or_problem(one)) for one in work]
    outcomes = [task.result() for task in running]
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if len(problems) == len(outcomes) and all(problem.status >= 500 for problem in problems):
        raise problems[0]
    for problem in problems:
        PROBLEMS.labels(problem.code).inc()
    return outcomes


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. If the client disconnects first, the work is cancelled and ClientDisconnect is raised."""
    task = asyncio.current_task()
    assert task
    watcher = asyncio.ensure_future(_cancel_when_disconnected(request, task))
    try:
        return await work
    except asyncio.CancelledError:
        if watcher.done() and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


async def _cancel_when_disconnected(request: Request, task: asyncio.Task[Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
