"""Which part of an image fills the model's input, at what size, and how EXIF's orientation turns it.

export/images/ has its own copy of the rules for the crop, because it must not import this package.
tests/ingest/images/test_geometry.py checks that both give equal boxes.

A phone stores an image as the sensor saw it. Tag 0x0112 says how to turn it (EXIF 2.32, 4.6.4):

    1 as it is        2 mirrored        3 by 180 degrees         4 flipped
    5 transposed      6 by 90 degrees   7 transposed crosswise   8 by 270 degrees
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from stream.model import ModelDescription

_ORIENTATION: Final = 0x0112
_SHORT: Final = 3

#: Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]


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

_ORIENTATIONS: Final = {
    2: Orientation(reverse_columns=True),
    3: Orientation(reverse_rows=True, reverse_columns=True),
    4: Orientation(reverse_rows=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, reverse_columns=True),
    7: Orientation(transpose=True, reverse_rows=True, reverse_columns=True),
    8: Orientation(transpose=True, reverse_rows=True),
}


def orientation_of(exif: bytes) -> Orientation:
    """The orientation in raw EXIF (a TIFF structure, perhaps after `Exif\\0\\0`). Upright if the data is damaged.

    Reads only this tag. A general EXIF reader copies the value of every tag, and an EXIF of 64 KB can name the same
    64 KB five thousand times.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, _count, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return _ORIENTATIONS.get(value, UPRIGHT) if kind == _SHORT else UPRIGHT
    except struct.error:
        return UPRIGHT  # The directory lies outside the data. An image without an orientation is still an image.
    return UPRIGHT


@dataclass(frozen=True, slots=True)
class CropBox:
    """The part of a stored image to scale: `box` becomes `width` x `height`, which `orientation` then makes upright."""

    box: Box
    width: int
    height: int
    orientation: Orientation

    def scaled_by(self, divisor: int) -> "CropBox":
        """The same part of an image whose sides were divided by `divisor`."""
        left, top, right, bottom = self.box
        box = (left / divisor, top / divisor, right / divisor, bottom / divisor)
        return CropBox(box, self.width, self.height, self.orientation)

    def reduction(self) -> float:
        """Pixels of the image for one pixel of the input, along the side where there are fewer."""
        left, top, right, bottom = self.box
        return min((right - left) / self.width, (bottom - top) / self.height)


def crop_box(width: int, height: int, orientation: Orientation, model: ModelDescription) -> CropBox:
    """The part of an image, stored as `width` x `height`, that the model takes."""
    upright_width, upright_height = orientation.size(width, height)
    box = _box(upright_width, upright_height, model)
    into_width, into_height = orientation.size(model.width, model.height)
    return CropBox(orientation.stored_box(box, upright_width, upright_height), into_width, into_height, orientation)


def _box(width: int, height: int, model: ModelDescription) -> Box:
    if model.resize.mode == "squash":
        return (0.0, 0.0, float(width), float(height))
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
    return (
        left,
        top,
        left + model.width * width / scaled_width,
        top + model.height * height / scaled_height,
    )
