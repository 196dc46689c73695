"""Decodes images and sends them to the consumers of a model: the one way that all endpoints share."""

import time
from dataclasses import dataclass

from ingest.dispatch.model_client import ModelClient
from ingest.dispatch.prepared_image import PreparedImage
from ingest.images.decoder import Decoder
from ingest.responses import Prediction, Values, prediction
from ingest.uploads import Upload
from results.outcome import Done
from stream.model import ModelDescription


@dataclass(frozen=True, slots=True)
class Classified:
    """A prediction, and how long its image took to decode."""

    done: Done
    decode_ms: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the images of a request are classified by: a model as it was when the request came, and `top` classes.

    With `top` 0 the probabilities of all classes are wanted. `version` is the only one that may answer, if it is set.
    Labels below `threshold` are left out of responses.
    """

    client: ModelClient
    model: ModelDescription
    top: int = 0
    version: str | None = None
    threshold: float | None = None

    async def prediction(self, done: Done) -> Prediction | Values:
        """The response to one image."""
        labels = await self.client.labels(done.version)
        return prediction(done, model=self.client.name, labels=labels, threshold=self.threshold)


class Classifier:
    """Decodes images and has them classified; each method raises a Problem on failure."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def classify(self, image: Upload | memoryview, target: Target) -> Classified:
        """The prediction for one image, encoded or already uint8 [height, width, channels] of the model's size.

        Cancelling this call cancels the work.
        """
        began = time.perf_counter()
        prepared = await self.prepare(image, target)
        decode_ms = (time.perf_counter() - began) * 1000
        done = await target.client.classify(target.model, prepared, version=target.version)
        return Classified(done, decode_ms)

    async def prepare(self, image: Upload | memoryview, target: Target) -> PreparedImage:
        """The image as consumers of the model read it."""
        if isinstance(image, Upload):
            pixels = await self._decoder.decode(image, target.model)
        else:
            pixels = bytes(image)
        return PreparedImage(pixels, target.top, self._decoder.remaining_s)
