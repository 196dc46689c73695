"""A file of any format that is taken to the model's input: raw RGB pixels, upright, of the model's size.

Safe to call from many threads at once; changes no setting of Pillow's. What the file names itself and which
content type it was sent with count for nothing. Colour profiles are not applied, as in training.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from ingest.errors import DamagedImage, TooManyPixels
from ingest.images import jpeg
from ingest.images import pillow as still
from ingest.images.formats import format_of
from ingest.images.geometry import Frame, frame
from ingest.images.orientation import UPRIGHT, Turn
from ingest.images.resampling import resample, resample_image
from stream.model import Interpolation, ModelDescription

#: What Pillow's plugins raise on hostile bytes. None of it is documented; each was met by flipping and cutting
#: bytes of every format, or stands as a `raise` in a plugin:
_RAISED_BY_PILLOW: Final = (
    OSError,  # truncated or broken data; UnidentifiedImageError is one, and ingest.images.bounded_reader.TooMuchReading
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


class Undecoded:
    """A file as it was sent. What stands before its pixels is read when it is first asked for, and once."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = bytes(data)

    @cached_property
    def _kind(self) -> str:
        return format_of(self._data)

    @cached_property
    def _photograph(self) -> jpeg.Photograph:
        return jpeg.read(self._data)

    @property
    def is_quick(self) -> bool:
        """Whether it takes 4 ms of a core at most, whoever made it; what is large is not even looked at.

        Raises UnsupportedMediaType and DamagedImage.
        """
        return len(self._data) <= jpeg.QUICK_BYTES and self._kind == "JPEG" and self._photograph.is_quick

    def to_pixels(self, model: ModelDescription, max_pixels: int) -> bytes:
        """uint8 [height, width, 3] of the model's input, C order.

        Raises UnsupportedMediaType, DamagedImage, TooManyPixels, each with what to do about it, and nothing else.
        """
        if self._kind == "JPEG":
            return _scaled_jpeg(self._photograph, model, max_pixels)
        return _scaled(self._data, self._kind, model, max_pixels)


def to_pixels(data: bytes | bytearray | memoryview, model: ModelDescription, max_pixels: int) -> bytes:
    """As Undecoded's."""
    return Undecoded(data).to_pixels(model, max_pixels)


def _scaled_jpeg(photograph: jpeg.Photograph, model: ModelDescription, max_pixels: int) -> bytes:
    turn = photograph.turn
    if photograph.size:
        still.check_pixels(*photograph.size, max_pixels)
        framed = frame(*photograph.size, turn, model)
        divisor = _divisor(framed, model.resize.interpolation)
        decoded = jpeg.decode(photograph, divisor)
        if decoded is not None:
            return _upright(resample(decoded, framed.shrunk(divisor), model.resize.interpolation), framed)
    return _scaled(photograph.bare(), "JPEG", model, max_pixels, turn)


def _divisor(framed: Frame, interpolation: Interpolation) -> int:
    """Nearest takes single pixels, which only the full picture has."""
    return 1 if interpolation == "nearest" else jpeg.divisor_for(framed.scale())


def _scaled(data: bytes, kind: str, model: ModelDescription, max_pixels: int, turn: Turn | None = None) -> bytes:
    with _damage_told(kind):
        image = still.open_image(data, kind, max_pixels)
        pixels = still.decode(image)
        framed = frame(pixels.width, pixels.height, turn or still.turn_of_image(image), model)
        return _upright(resample_image(pixels, framed, model.resize.interpolation), framed)


def _upright(stored: bytes, framed: Frame) -> bytes:
    """Pixels of the frame as it is stored, turned."""
    if framed.turn == UPRIGHT:
        return stored
    return framed.turn.apply(np.frombuffer(stored, np.uint8).reshape(framed.height, framed.width, 3)).tobytes()


@contextmanager
def _damage_told(kind: str) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise TooManyPixels(f"The {kind} picture is too large to be decoded. Scale it down before sending.") from error
    except _RAISED_BY_PILLOW as error:
        raise DamagedImage(f"The {kind} file is damaged: {_words(error)}. Send the whole file.") from error


def _words(error: BaseException) -> str:
    """The decoder's message, without the address of the buffer that it read."""
    if isinstance(error, UnidentifiedImageError):
        return "its header can't be read"
    return str(error).partition("\n")[0][:200] or type(error).__name__
