"""A decoded image on its way into the stream."""

import math
from dataclasses import dataclass

from stream.entry import Entry
from stream.model import ModelDescription


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Raw uint8 [height, width, channels] of the model that the image was prepared for.

    `top` is the number of classes wanted (0: all). `decoding_s` is how long ingest will still decode other images.
    """

    pixels: bytes
    top: int
    decoding_s: float = 0.0

    def entry(self, request_id: str, model: ModelDescription, *, reply: str) -> Entry:
        """The entry of this image. `reply` names the ingest that waits for its outcome, and may be empty."""
        return Entry(
            request_id,
            reply,
            self.top,
            model.height,
            model.width,
            self.pixels,
            channels=model.channels,
            more_ms=math.ceil(self.decoding_s * 1000),
        )
