"""EXIF's orientation: found in raw EXIF, and what it asks for. Knows no format that EXIF comes in.

Phones store a picture as the sensor saw it and note in tag 0x0112 how to turn it (EXIF 2.32, 4.6.4):

    1 as it is        2 mirrored        3 by 180 degrees         4 flipped
    5 transposed      6 by 90 degrees   7 transposed crosswise   8 by 270 degrees
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

_ORIENTATION = 0x0112
_SHORT = 3

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """From the stored picture to the upright one: first rows become columns, then either order is reversed."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The upright size of a stored one; the other way round it is the same."""
        return (height, width) if self.transpose else (width, height)

    def stored_box(self, box: Box, width: int, height: int) -> Box:
        """Where a box (left, top, right, bottom) of the upright picture, of this size, lies in the stored one."""
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


UPRIGHT = Turn()

_TURNS = {
    2: Turn(reverse_columns=True),
    3: Turn(reverse_rows=True, reverse_columns=True),
    4: Turn(reverse_rows=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, reverse_columns=True),
    7: Turn(transpose=True, reverse_rows=True, reverse_columns=True),
    8: Turn(transpose=True, reverse_rows=True),
}


def turn_of(exif: bytes) -> Turn:
    """The turn that raw EXIF (a TIFF structure, perhaps behind `Exif\\0\\0`) asks for; none where it is damaged.

    Reads this one tag by hand: a general EXIF reader copies the value of every tag, and an EXIF of 64 KB can
    name the same 64 KB five thousand times.
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
                return _TURNS.get(value, UPRIGHT) if kind == _SHORT else UPRIGHT
    except struct.error:
        return UPRIGHT  # the directory lies outside of the data: a picture without a turn is still a picture
    return UPRIGHT
