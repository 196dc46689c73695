"""Decodes JPEG with libjpeg-turbo (simplejpeg), scaled while it decodes. Pillow decodes the rare kinds.

Measured, in ms of CPU on one core of a Xeon, libjpeg-turbo 3:

                              500 x 375, 69 KB      4000 x 3000, 3.2 MB
    Pillow, full                      0.74                  50.9
    Pillow, draft                     0.74 (1/1)            28.0 (1/8)
    simplejpeg 8/8                    0.66                  38.9
    7/8   6/8   5/8            1.09  0.96  0.81      61.8  52.0  44.5
    4/8   3/8                  0.56  0.59            29.2  31.5
    2/8   1/8                  0.52  0.46            26.8  23.8

Only 1/1, 1/2, 1/4 and 1/8 have SIMD code in libjpeg-turbo. The steps between cost more than they save, even if they
cover the target with fewer pixels. So the scale is a power of two. A small image is decoded in full, with the same
pixels as in Pillow. simplejpeg reads from memory and writes to memory, without Pillow's parsing in Python. (The wheel
of PyTurboJPEG contains no library.)
"""

import math
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ingest.errors import DamagedImage
from ingest.images.geometry import UPRIGHT, Orientation, orientation_of
from ingest.images.resampling import PixelBuffer

#: A camera writes about ten segments before the pixels. A large colour profile takes some hundred.
_MAX_SEGMENTS: Final = 4096
#: Each scan of a progressive JPEG walks over the whole image, and a scan of empty blocks takes a hundred bytes. So a
#: file of 1 MB could keep a core busy for minutes. Encoders write about ten scans.
_MAX_SCANS: Final = 100
#: The event loop itself decodes images up to these sizes (ingest/images/decoder.py). The time of one scan depends on
#: its bytes and on its pixels.
QUICK_BYTES: Final = 256 * 1024
_QUICK_PIXELS: Final = 2**19
#: Buffers up to this size are kept for the next image. New memory costs 0.2 ms of page faults for 0.6 MB.
_MAX_KEPT_BYTES: Final = 4 * 2**20

_EXIF: Final = 0xE1
_ADOBE: Final = 0xEE
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_APPLICATION_SEGMENTS: Final = range(0xE0, 0xF0)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # markers without a length: stuffing, TEM, RST, SOI

#: The scaled image keeps at least twice the pixels of the input along each side, because the DCT's low-pass is sharper
#: than the resampling that follows. Measured against Pillow's full decode and resize, with EfficientNet-Lite0 over 280
#: JPEGs, squashed and cropped (images of scikit-image and crops of them, 200 to 4000 pixels long). Top-1 was equal
#: whenever the full decode leads by 0.1. There, probabilities changed by up to 0.083 with a factor of 1, 0.070 with 1.5
#: and 0.046 with 2. The mean change was 0.009 with a scale, and 0.002 without.
_OVERSAMPLING: Final = 2

#: A warning of libjpeg about entropy-coded data that does not hurt the image: padding before the end.
_HARMLESS: Final = "extraneous bytes before marker"
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """A file and what its header says. If it is `interleaved`, one scan holds all of its pixels.

    `size` is width and height as the decoder sees them, None if the decoder does not accept the file. `colours` is the
    decoder's name of the colour space.
    """

    data: bytes
    orientation: Orientation
    interleaved: bool
    segments: tuple[tuple[int, int, int], ...]  # marker, start, end
    size: tuple[int, int] | None
    colours: str

    @property
    def is_quick(self) -> bool:
        """Whether a file of at most QUICK_BYTES takes at most 4 ms of a core, even if it is hostile."""
        return self.interleaved and self.size is not None and math.prod(self.size) <= _QUICK_PIXELS

    def bare(self) -> bytes:
        """The file without application segments, except Adobe's, which says how colours are stored."""
        kept, position = [], 0
        for marker, start, end in self.segments:
            if marker in _APPLICATION_SEGMENTS and marker != _ADOBE:
                kept.append(self.data[position:start])
                position = end
        return b"".join([*kept, self.data[position:]])


def read(data: bytes) -> JpegHeader:
    """Read the header. Raises DamagedImage if the file ends there."""
    orientation, interleaved, segments = _walk(data)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return JpegHeader(data, orientation, interleaved, segments, None, "")
    return JpegHeader(data, orientation, interleaved, segments, (width, height), colours)


def _walk(data: bytes) -> tuple[Orientation, bool, tuple[tuple[int, int, int], ...]]:
    """The orientation, whether the first scan is interleaved, and the segments before that scan."""
    orientation, components, position = UPRIGHT, 0, 2
    segments: list[tuple[int, int, int]] = []
    for _ in range(_MAX_SEGMENTS):
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
            return orientation, interleaved, tuple(segments)
        if marker == _EXIF and orientation is UPRIGHT:
            orientation = orientation_of(body) if body.startswith(b"Exif\0\0") else orientation
        elif marker in _FRAMES and len(body) > 5:
            # A progressive image has many scans even if the first one holds all components.
            components = body[5] if marker in (0xC0, 0xC1) else 0
        segments.append((marker, start, end))
        position = end
    raise DamagedImage("The JPEG file ends before its pixels begin. Send the whole file.")


def _limit_scans(data: bytes) -> None:
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise DamagedImage(
            f"The JPEG file has more than {_MAX_SCANS} scans, which no encoder writes. Save the image again."
        )


def divisor_for(reduction: float) -> int:
    """By how much the decoder may divide the sides if the resampling divides them by `reduction`."""
    return next((divisor for divisor in (8, 4, 2) if reduction >= divisor * _OVERSAMPLING), 1)


def decode(header: JpegHeader, divisor: int) -> PixelBuffer | None:
    """Decode the image with each side divided. None if this decoder cannot decode the file after all.

    Raises DamagedImage if pixels are missing or the entropy-coded data makes no sense. libjpeg would continue with
    grey, and a prediction for grey is worse than none.
    """
    try:
        return _decode(header, divisor, strict=True)
    except ValueError as error:
        if _HARMLESS not in str(error):
            if str(error).startswith(_DAMAGE):
                raise DamagedImage(f"The JPEG file is damaged: {error}. Send the whole file.") from error
            return None
    try:
        return _decode(header, divisor, strict=False)
    except ValueError:
        return None


def _decode(header: JpegHeader, divisor: int, *, strict: bool) -> PixelBuffer:
    assert header.size
    width, height = (-(-side // divisor) for side in header.size)
    is_cmyk = header.colours in ("CMYK", "YCCK")
    buffer = _per_thread.buffer(height * width * 4)
    pixels = simplejpeg.decode_jpeg(
        header.data, "CMYK" if is_cmyk else "RGBX",
        min_height=height, min_width=width, buffer=buffer, strict=strict,
    )  # fmt: skip
    if is_cmyk:
        _cmyk_to_rgb(pixels)
    return PixelBuffer(buffer, pixels.shape[1], pixels.shape[0])


def _cmyk_to_rgb(pixels: NDArray[np.uint8]) -> None:
    """Convert to RGB in place. JPEG stores CMYK inverted, as Adobe does, and all viewers expect that."""
    cyan_magenta_yellow, black = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
    pixels[..., :3] = (cyan_magenta_yellow * black + 127) // 255


class _PerThread(threading.local):
    def __init__(self) -> None:
        self._kept = bytearray()

    def buffer(self, size: int) -> bytearray:
        if size > _MAX_KEPT_BYTES:
            return bytearray(size)
        if size > len(self._kept):
            self._kept = bytearray(size)
        return self._kept


_per_thread = _PerThread()
