"""A decoded image on its way into the stream."""

import math
from dataclasses import dataclass, replace

import numpy as np

from results.webhook import Webhook
from stream.entry import Entry
from stream.keys import Priority
from stream.model import ModelDescription


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Raw pixels [height, width, channels] of the `model` version that the image was prepared for.

    They are uint8, or uint16 in steps of 1/256 if the model takes fractions. `top` is the number of classes wanted
    (0: all). `decoding_s` is how long ingest will still decode other images. `priority` is the class that the image
    waits in. Only consumers of `version` take it; empty: all.
    `webhook` says where to deliver the outcome, if anywhere; its id is that of the request, once there is one. Such an
    image is never answered from the cache, because an outcome is delivered when its entry is completed.
    """

    model: ModelDescription
    pixels: bytes
    top: int
    decoding_s: float = 0.0
    priority: Priority = "interactive"
    version: str = ""
    webhook: Webhook | None = None

    def entry(self, request_id: str, *, reply: str) -> Entry:
        """The entry of this image. `reply` names the ingest that waits for its outcome, and may be empty."""
        model = self.model
        pixels, fractions = self.pixels, b""
        if not model.resize.rounded and len(pixels) > model.input_bytes:
            pixels, fractions = _split(pixels)
        return Entry(
            request_id,
            reply,
            self.top,
            model.height,
            model.width,
            pixels,
            channels=model.channels,
            more_ms=math.ceil(self.decoding_s * 1000),
            fractions=fractions,
            preparation=model.preparation,
            webhook=replace(self.webhook, id=request_id).encode() if self.webhook else "",
        )


def _split(pixels: bytes) -> tuple[bytes, bytes]:
    """The rounded pixels, and for each its fraction plus one half, in 256ths."""
    shifted = (np.frombuffer(pixels, "<u2") + np.uint16(128)).astype("<u2", copy=False).view(np.uint8)
    return shifted[1::2].tobytes(), shifted[::2].tobytes()
