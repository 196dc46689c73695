"""JPEG by libjpeg-turbo (simplejpeg), scaled while it decodes. Leaves rare kinds to Pillow; knows no model.

Measured, in ms of CPU on one core of a Xeon, libjpeg-turbo 3:

                              500 x 375, 69 KB      4000 x 3000, 3.2 MB
    Pillow, full                      0.74                  50.9
    Pillow, draft                     0.74 (1/1)            28.0 (1/8)
    simplejpeg 8/8                    0.66                  38.9
    7/8   6/8   5/8            1.09  0.96  0.81      61.8  52.0  44.5
    4/8   3/8                  0.56  0.59            29.2  31.5
    2/8   1/8                  0.52  0.46            26.8  23.8

Only 1/1, 1/2, 1/4 and 1/8 have SIMD code in libjpeg-turbo; the steps between cost more than they save, also where
they cover the target with fewer pixels. So the scale is a power of two, and a small picture is decoded in full,
pixel for pixel as Pillow decodes it. simplejpeg also reads from memory and writes to memory, without Pillow's
parsing in Python. (PyTurboJPEG has no library in its wheel.)
"""

import math
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ingest.errors import DamagedImage
from ingest.images.orientation import UPRIGHT, Turn, turn_of
from ingest.images.resampling import Raw

#: A camera's JPEG has about ten segments before its pixels, one with a large colour profile some hundred.
_MOST_SEGMENTS: Final = 4096
#: Each scan of a progressive JPEG walks over the whole picture, and a scan of empty blocks takes a hundred bytes:
#: a file of 1 MB could keep a core busy for minutes. Encoders write about ten scans.
_MOST_SCANS: Final = 100
#: What is decoded where it is received (ingest/images/decoder.py): one scan takes time for its bits and for its pixels.
QUICK_BYTES: Final = 256 * 1024
_QUICK_PIXELS: Final = 2**19
#: Buffers up to this size are kept for the next picture: fresh memory costs 0.2 ms of page faults in 0.6 MB.
_KEPT_BYTES: Final = 4 * 2**20

_EXIF: Final = 0xE1
_ADOBE: Final = 0xEE
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_APPLICATION_SEGMENTS: Final = range(0xE0, 0xF0)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # markers without a length: stuffing, TEM, RST, SOI

#: The scaled picture keeps at least twice the pixels that the input has along each side, since the DCT's low-pass
#: is sharper than the resampling that follows. Over 280 JPEGs, squashed and cropped (photographs of scikit-image and
#: crops of them, 200 to 4000 pixels long, EfficientNet-Lite0, against Pillow's full decode and resize) top-1 was equal
#: wherever the full decode leads by 0.1, and probabilities changed there by up to 0.083 with 1, 0.070 with 1.5 and
#: 0.046 with 2; by 0.009 on average where the scale is used, by 0.002 where it is not.
_OVERSAMPLING: Final = 2

#: libjpeg's warnings on entropy-coded data that do not hurt the picture: padding before the end.
_HARMLESS: Final = "extraneous bytes before marker"
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file")


@dataclass(frozen=True, slots=True)
class Photograph:
    """A file with what stands before its pixels; all of these come in one scan where it is `interleaved`.

    `size` is its width and height as the decoder will see them, None where the decoder does not take the file, and
    `colours` what the decoder calls its colours.
    """

    data: bytes
    turn: Turn
    interleaved: bool
    segments: tuple[tuple[int, int, int], ...]  # marker, start, end
    size: tuple[int, int] | None
    colours: str

    @property
    def is_quick(self) -> bool:
        """Whether its pixels take 4 ms of a core at most, whoever made the file, where that has QUICK_BYTES at most."""
        return self.interleaved and self.size is not None and math.prod(self.size) <= _QUICK_PIXELS

    def bare(self) -> bytes:
        """The file without application segments, except Adobe's, which says how colours are stored."""
        kept, position = [], 0
        for marker, start, end in self.segments:
            if marker in _APPLICATION_SEGMENTS and marker != _ADOBE:
                kept.append(self.data[position:start])
                position = end
        return b"".join([*kept, self.data[position:]])


def read(data: bytes) -> Photograph:
    """Read what stands before the pixels; raises DamagedImage where the file ends there."""
    turn, interleaved, segments = _walk(data)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return Photograph(data, turn, interleaved, segments, None, "")
    return Photograph(data, turn, interleaved, segments, (width, height), colours)


def _walk(data: bytes) -> tuple[Turn, bool, tuple[tuple[int, int, int], ...]]:
    """The segments up to the first scan, with the turn that they ask for, and whether that scan is interleaved."""
    turn, components, position = UPRIGHT, 0, 2
    segments: list[tuple[int, int, int]] = []
    for _ in range(_MOST_SEGMENTS):
        start = data.find(b"\xff", position)
        marker = data[start + 1] if 0 <= start < len(data) - 3 else _END_OF_IMAGE
        if marker == 0xFF or marker in _BARE:
            position = start + (1 if marker == 0xFF else 2)
            continue
        if marker == _END_OF_IMAGE:
            break
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : end]
        if marker == _START_OF_SCAN:
            interleaved = body[:1] == bytes([components])
            if not interleaved:
                _limit_scans(data)
            return turn, interleaved, tuple(segments)
        if marker == _EXIF and turn is UPRIGHT:
            turn = turn_of(body) if body.startswith(b"Exif\0\0") else turn
        elif marker in _FRAMES and len(body) > 5:
            # A progressive picture has many scans even where the first one holds all components.
            components = body[5] if marker in (0xC0, 0xC1) else 0
        segments.append((marker, start, end))
        position = end
    raise DamagedImage("The JPEG file ends before its pixels begin. Send the whole file.")


def _limit_scans(data: bytes) -> None:
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise DamagedImage(
            f"The JPEG file has more than {_MOST_SCANS} scans, which no encoder writes. Save the picture anew."
        )


def divisor_for(scale: float) -> int:
    """By how much the decoder may divide the sides where the frame needs 1/scale of them."""
    return next((divisor for divisor in (8, 4, 2) if scale >= divisor * _OVERSAMPLING), 1)


def decode(photograph: Photograph, divisor: int) -> Raw | None:
    """The picture, each side divided; None where this decoder does not take the file after all.

    Raises DamagedImage where pixels are missing or the entropy-coded data makes no sense: libjpeg would go on
    with grey, and a prediction for grey is worse than none.
    """
    try:
        return _decode(photograph, divisor, strict=True)
    except ValueError as error:
        if _HARMLESS not in str(error):
            if str(error).startswith(_DAMAGE):
                raise DamagedImage(f"The JPEG file is damaged: {error}. Send the whole file.") from error
            return None
    try:
        return _decode(photograph, divisor, strict=False)
    except ValueError:
        return None


def _decode(photograph: Photograph, divisor: int, *, strict: bool) -> Raw:
    assert photograph.size
    width, height = (-(-side // divisor) for side in photograph.size)
    inked = photograph.colours in ("CMYK", "YCCK")
    buffer = _per_thread.buffer(height * width * 4)
    pixels = simplejpeg.decode_jpeg(
        photograph.data, "CMYK" if inked else "RGBX",
        min_height=height, min_width=width, buffer=buffer, strict=strict,
    )  # fmt: skip
    if inked:
        _paint(pixels)
    return Raw(buffer, pixels.shape[1], pixels.shape[0])


def _paint(inks: NDArray[np.uint8]) -> None:
    """RGB in place of inks, which JPEG stores inverted, as Adobe does, whatever the file says; so do all viewers."""
    cyan_magenta_yellow, black = inks[..., :3].astype(np.uint16), inks[..., 3:]
    inks[..., :3] = (cyan_magenta_yellow * black + 127) // 255


class _PerThread(threading.local):
    def __init__(self) -> None:
        self._kept = bytearray()

    def buffer(self, size: int) -> bytearray:
        if size > _KEPT_BYTES:
            return bytearray(size)
        if size > len(self._kept):
            self._kept = bytearray(size)
        return self._kept


_per_thread = _PerThread()
