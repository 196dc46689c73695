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

import threading
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ingest.errors import DamagedImage
from ingest.images.jpeg_header import JpegHeader
from ingest.images.resampling import PixelBuffer

#: Buffers up to this size are kept for the next image. New memory costs 0.2 ms of page faults for 0.6 MB.
_MAX_KEPT_BYTES: Final = 4 * 2**20
#: Pixels that are converted from CMYK at a time.
_STRIP_PIXELS: Final = 2**20

#: The scaled image keeps at least twice the pixels of the input along each side, because the DCT's low-pass is sharper
#: than the resampling that follows. Measured against Pillow's full decode and resize, with EfficientNet-Lite0 over 280
#: JPEGs, squashed and cropped (images of scikit-image and crops of them, 200 to 4000 pixels long). Top-1 was equal
#: whenever the full decode leads by 0.1. There, probabilities changed by up to 0.083 with a factor of 1, 0.070 with 1.5
#: and 0.046 with 2. The mean change was 0.009 with a scale, and 0.002 without.
_OVERSAMPLING: Final = 2

#: A warning of libjpeg about entropy-coded data that does not hurt the image: padding before the end.
_HARMLESS: Final = "extraneous bytes before marker"
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file")


def divisor_for(reduction: float) -> int:
    """By how much the decoder may divide the sides if the resampling divides them by `reduction`."""
    return next((divisor for divisor in (8, 4, 2) if reduction >= divisor * _OVERSAMPLING), 1)


def decode(header: JpegHeader, divisor: int, *, fast_dct: bool = False, grey: bool = False) -> PixelBuffer | None:
    """Decode the image with each side divided. None if this decoder cannot decode the file after all.

    With `fast_dct`, the pixels are those of TensorFlow. With `grey`, only the luma is decoded, except of CMYK.

    Raises DamagedImage if pixels are missing or the entropy-coded data makes no sense. libjpeg would continue with
    grey, and a prediction for grey is worse than none.
    """
    try:
        return _decode(header, divisor, strict=True, fast_dct=fast_dct, grey=grey)
    except ValueError as error:
        if _HARMLESS not in str(error):
            if str(error).startswith(_DAMAGE):
                raise DamagedImage(f"The JPEG file is damaged: {error}. Send the whole file.") from error
            return None
    try:
        return _decode(header, divisor, strict=False, fast_dct=fast_dct, grey=grey)
    except ValueError:
        return None


def _decode(header: JpegHeader, divisor: int, *, strict: bool, fast_dct: bool, grey: bool) -> PixelBuffer:
    assert header.size
    width, height = (-(-side // divisor) for side in header.size)
    is_cmyk = header.colours in ("CMYK", "YCCK")
    grey = grey and not is_cmyk
    buffer = _per_thread.buffer(height * width * (1 if grey else 4))
    pixels = simplejpeg.decode_jpeg(
        header.data, "CMYK" if is_cmyk else "GRAY" if grey else "RGBX",
        min_height=height, min_width=width, buffer=buffer, strict=strict, fastdct=fast_dct,
    )  # fmt: skip
    if is_cmyk:
        _cmyk_to_rgb(pixels)
    return PixelBuffer(buffer, pixels.shape[1], pixels.shape[0], grey)


def _cmyk_to_rgb(pixels: NDArray[np.uint8]) -> None:
    """Convert to RGB in place. JPEG stores CMYK inverted, as Adobe does, and all viewers expect that."""
    # Some rows at a time: the products take 16 bits.
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        strip = pixels[top : top + rows]
        colours, black = strip[..., :3].astype(np.uint16), strip[..., 3:]
        strip[..., :3] = (colours * black + 127) // 255


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
