"""A convoy: the images of one request on their way to the consumers, so many at a time. Knows no HTTP.

How many are under way adapts to what the queue takes. A place whose image is refused is given up, and the image goes
with the next that is free; the last place waits a little and tries again, as long as any image has been answered: to
refuse then would throw away the work that is done. Where the queue takes none at all, the request is refused at
once, as one with a single image would be.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from ingest.dispatch.model_client import Dispatch, Picture
from ingest.errors import DeadlinePassed, NoConsumer, Overloaded, Problem
from ingest.images.decoder import Decoder
from ingest.oip.tensors import Image
from ingest.outage import RETRY_S
from ingest.uploads import Upload
from results.outcome import Done
from stream.model import ModelDescription

#: Images of one request that are under way at once: two of the largest batches, one that runs and one that is read
#: meanwhile. More would not be answered sooner, and would keep others waiting.
_PLACES: Final = 64

#: Seconds between two attempts of the last place: the first, and the longest.
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0

#: How often an image is asked again that another version has answered than the one that was named. With two equal
#: versions one image in 2**64 is given up, with 8 tries it was one in 256; the request's deadline bounds it as well.
_MOST_TRIES: Final = 64


class Convoy:
    """Classifies the images of one request by the model that they are made for, or by one version of it."""

    def __init__(
        self, dispatch: Dispatch, decoder: Decoder, model: ModelDescription, *, version: str | None, longest_s: float
    ) -> None:
        self._dispatch = dispatch
        self._decoder = decoder
        self._model = model
        self._version = version
        self._longest_s = longest_s
        self._images: list[Image] = []
        self._waiting: deque[int] = deque()
        self._answers: dict[int, Done] = {}
        self._places = 0

    async def classify(self, images: Sequence[Image]) -> list[Done]:
        """All probabilities of each image, in their order.

        Raises the Problem of the first image that fails; the rest are cancelled then.
        """
        self._images = list(images)
        self._waiting = deque(range(len(images)))
        self._places = min(_PLACES, len(images))
        try:
            async with asyncio.timeout(self._longest_s), asyncio.TaskGroup() as tasks:
                for _ in range(self._places):
                    tasks.create_task(self._place())
        except TimeoutError as error:
            raise DeadlinePassed(
                f"{len(self._answers)} of {len(images)} images were answered within {self._longest_s:g} s. "
                "Send fewer images in one request."
            ) from error
        except ExceptionGroup as group:
            problems = [error for error in group.exceptions if isinstance(error, Problem)]
            if not problems:
                raise
            raise problems[0] from group
        return [self._answers[number] for number in range(len(images))]

    async def _place(self) -> None:
        """Take images until none waits."""
        pause_s = _FIRST_PAUSE_S
        while self._waiting:
            number = self._waiting.popleft()
            try:
                self._answers[number] = await self._one(number)
                pause_s = _FIRST_PAUSE_S
            except Overloaded:
                self._waiting.appendleft(number)
                if self._places > 1:
                    break
                if not self._answers or self._dispatch.model != self._model:
                    raise
                # Jitter keeps two such requests from trying in step.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (no secret)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._places -= 1

    async def _one(self, number: int) -> Done:
        try:
            self._dispatch.refuse_if_full()
            image = self._images[number]
            if isinstance(image, Upload):
                image = self._images[number] = memoryview(await self._decoder.decode(image, self._model))
            return await self._classify(Picture(bytes(image), 0, self._decoder.remaining_s))
        except Problem as problem:
            if len(self._images) > 1 and problem.status < 503:
                problem.detail = f"Image {number} (counted from 0): {problem.detail}"
            raise

    async def _classify(self, picture: Picture) -> Done:
        """Consumers of all versions take from one stream: which of them answers is known afterwards."""
        for _ in range(_MOST_TRIES):
            done = await self._dispatch.classify(self._model, picture, version=self._version)
            if self._version in {None, done.version}:
                return done
        raise NoConsumer(f"Version {self._version} is hardly served at present. Send it again.", retry_after_s=RETRY_S)
