"""Which part of an image fills the model's input, at what size, and how EXIF's orientation turns it.

export/images/ has its own copy of the rules for the crop, because it must not import this package.
tests/ingest/images/test_geometry.py checks that both give equal boxes.

A phone stores an image as the sensor saw it. Tag 0x0112 says how to turn it (EXIF 2.32, 4.6.4):

    1 as it is        2 mirrored        3 by 180 degrees         4 flipped
    5 transposed      6 by 90 degrees   7 transposed crosswise   8 by 270 degrees
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ingest.errors import TooManyPixels
from stream.model import ModelDescription

#: Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]


def check_pixels(width: int, height: int, limit: int) -> None:
    """Refuse an image by the size in its header, before memory is allocated for it."""
    if width * height > limit:
        raise TooManyPixels(
            f"The image has {width:,} x {height:,} pixels; the limit is {limit:,}. Scale it down before sending."
        )


@dataclass(frozen=True, slots=True)
class Orientation:
    """How to make a stored image upright: first rows become columns, then the order of either is reversed."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The upright size of a stored image, and also the stored size of an upright one."""
        return (height, width) if self.transpose else (width, height)

    def stored_box(self, box: Box, width: int, height: int) -> Box:
        """Where a box of the upright image, whose size is `width` x `height`, lies in the stored image."""
        left, top, right, bottom = box
        if self.reverse_columns:
            left, right = width - right, width - left
        if self.reverse_rows:
            top, bottom = height - bottom, height - top
        return (top, left, bottom, right) if self.transpose else (left, top, right, bottom)

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The upright view of stored pixels [height, width, channels]."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


UPRIGHT: Final = Orientation()

#: By the value of EXIF's tag; 1 is upright.
ORIENTATIONS: Final[dict[float, Orientation]] = {
    2: Orientation(reverse_columns=True),
    3: Orientation(reverse_rows=True, reverse_columns=True),
    4: Orientation(reverse_rows=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, reverse_columns=True),
    7: Orientation(transpose=True, reverse_rows=True, reverse_columns=True),
    8: Orientation(transpose=True, reverse_rows=True),
}


@dataclass(frozen=True, slots=True)
class CropBox:
    """The part of a stored image to scale: `box` becomes `width` x `height`, which `orientation` then makes upright.

    Then its upper left corner comes to `left` and `top` in the model's input. What it does not cover stays 0.
    """

    box: Box
    width: int
    height: int
    orientation: Orientation
    left: int = 0
    top: int = 0

    def scaled_by(self, divisor: int) -> "CropBox":
        """The same part of an image whose sides were divided by `divisor`."""
        if divisor == 1:
            return self
        left, top, right, bottom = self.box
        return replace(self, box=(left / divisor, top / divisor, right / divisor, bottom / divisor))

    def reduction(self) -> float:
        """Pixels of the image for one pixel of the input, along the side where there are fewer."""
        left, top, right, bottom = self.box
        return min((right - left) / self.width, (bottom - top) / self.height)


def crop_box(width: int, height: int, orientation: Orientation, model: ModelDescription) -> CropBox:
    """The part of an image, stored as `width` x `height`, that the model takes."""
    width, height = orientation.size(width, height)
    left, top, inner_width, inner_height = _inner(width, height, model)
    stored = orientation.stored_box(_box(width, height, model), width, height)
    return CropBox(stored, *orientation.size(inner_width, inner_height), orientation, left, top)


def _inner(width: int, height: int, model: ModelDescription) -> tuple[int, int, int, int]:
    """Left, top, width and height of the image in the input: with bars as tf.image.resize_with_pad has them."""
    if model.resize.mode != "pad_to_aspect_ratio":
        return 0, 0, model.width, model.height
    ratio = max(np.float32(width) / np.float32(model.width), np.float32(height) / np.float32(model.height))
    inner_width, inner_height = np.float32(width) / ratio, np.float32(height) / ratio
    left, top = int((model.width - inner_width) / 2), int((model.height - inner_height) / 2)
    return max(0, left), max(0, top), max(1, int(inner_width)), max(1, int(inner_height))


def _box(width: int, height: int, model: ModelDescription) -> Box:
    match model.resize.mode:
        case "crop":
            return _centre(width, height, model)
        case "crop_to_aspect_ratio":
            return _whole_pixels(width, height, model)
        case _:
            return (0.0, 0.0, float(width), float(height))


def _centre(width: int, height: int, model: ModelDescription) -> Box:
    # A crop is defined in two steps: scale the shorter side to `shorter_side` (the other side rounds down, as in
    # torchvision, where the evaluation of most models comes from), then cut out the centre. The box does both at once.
    # So no pixels are computed that are cut off, however long and narrow the image is.
    short = min(width, height)
    least = max(-(-model.width * short // width), -(-model.height * short // height))
    shorter_side = max(model.resize.shorter_side or 0, least)
    scaled_width = max(model.width, shorter_side * width // short)
    scaled_height = max(model.height, shorter_side * height // short)
    left = round((scaled_width - model.width) / 2) * width / scaled_width
    top = round((scaled_height - model.height) / 2) * height / scaled_height
    right = left + model.width * width / scaled_width
    bottom = top + model.height * height / scaled_height
    return (left, top, min(right, width), min(bottom, height))


def _whole_pixels(width: int, height: int, model: ModelDescription) -> Box:
    """The largest centred part with the aspect ratio of the input, in whole pixels, as Keras cuts it."""
    crop_height = max(1, min(height, int(width * model.height / model.width)))
    crop_width = max(1, min(width, int(height * model.width / model.height)))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return (float(left), float(top), float(left + crop_width), float(top + crop_height))
