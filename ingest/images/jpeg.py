"""Decodes a JPEG with libjpeg-turbo (simplejpeg), scaled while it decodes. Pillow decodes the rare kinds.

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

import re
import threading
from dataclasses import replace
from typing import Final

import numpy as np
import simplejpeg

from ingest.errors import DamagedImage
from ingest.images.jpeg_header import END_OF_IMAGE, JpegHeader
from ingest.images.resampling import PixelBuffer, Pixels, cmyk_to_rgb

#: Buffers up to this size are kept for the next image. New memory costs 0.2 ms of page faults for 0.6 MB.
_MAX_KEPT_BYTES: Final = 4 * 2**20

#: libjpeg's warning of padding before the end, which some cameras write.
_PADDING: Final = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file")


def decode(header: JpegHeader, divisor: int, *, fast_dct: bool = False, grey: bool = False) -> PixelBuffer | None:
    """Decode the image with each side divided. None if this decoder cannot decode the file after all.

    With `fast_dct`, the pixels are those of TensorFlow. With `grey`, only the luma is decoded, except of CMYK.

    Raises DamagedImage if pixels are missing or the entropy-coded data makes no sense. libjpeg would continue with
    grey, and a prediction for grey is worse than none.
    """
    try:
        return _decode(header, divisor, fast_dct=fast_dct, grey=grey)
    except ValueError as error:
        if padding := _PADDING.match(str(error)):
            unpadded = replace(header, data=_without_padding(header, int(padding[1])))
            if len(unpadded.data) < len(header.data):
                return decode(unpadded, divisor, fast_dct=fast_dct, grey=grey)
        if str(error).startswith(_DAMAGE):
            raise DamagedImage(f"The JPEG file is damaged: {error}. Send the whole file.") from error
        return None


def _without_padding(header: JpegHeader, size: int) -> bytes:
    """The file without the bytes before its end.

    To ignore the warning instead would hide the next one: that the end came in the middle of the image.
    """
    end = header.data.find(bytes((0xFF, END_OF_IMAGE)), header.segments[-1][2] if header.segments else 0)
    while end > 0 and header.data[end - 1] == 0xFF:
        end -= 1
    return header.data[: end - size] + header.data[end:] if end >= size else header.data


def _decode(header: JpegHeader, divisor: int, *, fast_dct: bool, grey: bool) -> PixelBuffer:
    assert header.size
    width, height = (-(-side // divisor) for side in header.size)
    is_cmyk = header.colours in ("CMYK", "YCCK")
    grey = grey and not is_cmyk
    buffer = _per_thread.buffer(height * width * (1 if grey else 4))
    pixels = simplejpeg.decode_jpeg(
        header.for_decoder, "CMYK" if is_cmyk else "GRAY" if grey else "RGBX",
        min_height=height, min_width=width, buffer=buffer, strict=True, fastdct=fast_dct,
    )  # fmt: skip
    if is_cmyk:
        cmyk_to_rgb(pixels)
    return PixelBuffer(buffer, pixels.shape[1], pixels.shape[0], grey)


class _PerThread(threading.local):
    def __init__(self) -> None:
        self._kept = bytearray()

    def buffer(self, size: int) -> Pixels:
        if size > _MAX_KEPT_BYTES:
            # Not a bytearray, which fills itself with zeros: with 48 MB, that holds the interpreter for 40 ms.
            return np.empty(size, np.uint8)
        if size > len(self._kept):
            self._kept = bytearray(size)
        return self._kept


_per_thread = _PerThread()
