"""Decodes a file of any accepted format to the model's input: raw RGB pixels, upright, of the model's size.

Safe to call from many threads at once. The file's name and its content type do not matter. Colour profiles are not
applied, as in training.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from ingest.errors import DamagedImage, TooManyPixels, UnsupportedMediaType
from ingest.images import jpeg, pillow
from ingest.images.formats import FORMATS, SUPPORTED
from ingest.images.geometry import UPRIGHT, CropBox, Orientation, crop_box
from ingest.images.resampling import resample, resample_image
from stream.model import Interpolation, ModelDescription

#: What Pillow's plugins raise on hostile bytes. None of it is documented. Each was found by flipping and cutting bytes
#: of every format, or is a `raise` in a plugin:
_RAISED_BY_PILLOW: Final = (
    OSError,  # truncated or broken data; UnidentifiedImageError and ReadBudgetExceeded are OSErrors
    SyntaxError,  # a header that is not the format's
    ValueError,  # sizes, chunks and tags that make no sense; bytes that are no text
    EOFError,  # no frame in the file
    LookupError,  # a mode, a palette entry or a tag that does not exist
    TypeError,  # a tag of another type than the plugin expects
    AttributeError,  # a tag that the plugin expects is missing
    ArithmeticError,  # a size of zero as a divisor, a number beyond 32 bits
    RuntimeError,  # a decoder in the wrong state
    AssertionError,  # the plugin's own expectation of the file
    NotImplementedError,  # rare variants
    struct.error,  # fewer bytes than a field needs
    zlib.error,  # compressed text and profiles
    Warning,  # damage that Pillow only warns of, in a process that makes errors of warnings
)


class EncodedImage:
    """A file as it was sent. Its header is read once, when it is first needed."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = bytes(data)

    @cached_property
    def _kind(self) -> str:
        return format_of(self._data)

    @cached_property
    def _jpeg(self) -> jpeg.JpegHeader:
        return jpeg.read(self._data)

    @property
    def is_quick(self) -> bool:
        """Whether it takes at most 4 ms of a core, even if it is hostile. A large file counts as slow without a look.

        Raises UnsupportedMediaType and DamagedImage.
        """
        return len(self._data) <= jpeg.QUICK_BYTES and self._kind == "JPEG" and self._jpeg.is_quick

    def to_pixels(self, model: ModelDescription, max_pixels: int) -> bytes:
        """uint8 [height, width, 3] of the model's input, C order.

        Raises UnsupportedMediaType, DamagedImage and TooManyPixels, each with what to do about it, and nothing else.
        """
        if self._kind == "JPEG":
            return _scaled_jpeg(self._jpeg, model, max_pixels)
        return _scaled(self._data, self._kind, model, max_pixels)


def to_pixels(data: bytes | bytearray | memoryview, model: ModelDescription, max_pixels: int) -> bytes:
    """As EncodedImage's."""
    return EncodedImage(data).to_pixels(model, max_pixels)


def _scaled_jpeg(header: jpeg.JpegHeader, model: ModelDescription, max_pixels: int) -> bytes:
    orientation = header.orientation
    if header.size:
        pillow.check_pixels(*header.size, max_pixels)
        crop = crop_box(*header.size, orientation, model)
        divisor = _divisor(crop, model.resize.interpolation)
        decoded = jpeg.decode(header, divisor)
        if decoded is not None:
            return _upright(resample(decoded, crop.scaled_by(divisor), model.resize.interpolation), crop)
    return _scaled(header.bare(), "JPEG", model, max_pixels, orientation)


def _divisor(crop: CropBox, interpolation: Interpolation) -> int:
    """By how much the decoder may divide the sides. Nearest takes single pixels, which only the full image has."""
    return 1 if interpolation == "nearest" else jpeg.divisor_for(crop.reduction())


def _scaled(
    data: bytes, kind: str, model: ModelDescription, max_pixels: int, orientation: Orientation | None = None
) -> bytes:
    with _as_damaged_image(kind):
        image = pillow.open_image(data, kind, max_pixels)
        pixels = pillow.decode(image)
        crop = crop_box(pixels.width, pixels.height, orientation or pillow.orientation_of_image(image), model)
        return _upright(resample_image(pixels, crop, model.resize.interpolation), crop)


def _upright(stored: bytes, crop: CropBox) -> bytes:
    """The upright form of stored pixels."""
    if crop.orientation == UPRIGHT:
        return stored
    return crop.orientation.apply(np.frombuffer(stored, np.uint8).reshape(crop.height, crop.width, 3)).tobytes()


def format_of(data: bytes) -> str:
    """Pillow's name of the format. Raises UnsupportedMediaType, or DamagedImage if only a part of a signature came."""
    if not data:
        raise DamagedImage("The file is empty. Send the whole file.")
    for image_format in FORMATS:
        if length := image_format.matches(data):
            if len(data) < length:
                raise DamagedImage(
                    f"The {image_format.name} file ends after {len(data)} bytes, in its header. Send the whole file."
                )
            return image_format.name
    raise UnsupportedMediaType(
        f"The data is not in an accepted image format ({SUPPORTED}). Convert the image to one of them."
    )


@contextmanager
def _as_damaged_image(kind: str) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise TooManyPixels(f"The {kind} image is too large to be decoded. Scale it down before sending.") from error
    except _RAISED_BY_PILLOW as error:
        raise DamagedImage(f"The {kind} file is damaged: {_words(error)}. Send the whole file.") from error


def _words(error: BaseException) -> str:
    """The decoder's message, without the memory address that Pillow puts into one of them."""
    if isinstance(error, UnidentifiedImageError):
        return "its header can't be read"
    return str(error).partition("\n")[0][:200] or type(error).__name__
