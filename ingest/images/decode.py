"""Decodes a file of any accepted format to the model's input: raw pixels, upright, of the model's size.

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
from ingest.images.bounded_reader import ReadBudgetExceeded
from ingest.images.cost import FREE, LONG_HEADER, Cost, estimate, estimate_jpeg
from ingest.images.formats import FORMATS, JPEG_SIGNATURE, SUPPORTED, TITLES
from ingest.images.geometry import UPRIGHT, CropBox, Orientation, check_pixels, crop_box
from ingest.images.jpeg import MAX_SEGMENTS, QUICK_BYTES, JpegHeader, read_header
from ingest.images.resampling import fixed_point, resample
from ingest.images.scaling import scale, scale_unrounded
from stream.model import ModelDescription

#: What Pillow's plugins raise on hostile bytes. None of it is documented. Each was found by flipping and cutting bytes
#: of every format, or is a `raise` in a plugin:
_RAISED_BY_PILLOW: Final = (
    OSError,  # truncated or broken data; UnidentifiedImageError is an OSError
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


#: The scaled image keeps at least twice the pixels of the input along each side, because the DCT's low-pass is sharper
#: than the resampling that follows. Measured against Pillow's full decode and resize, with EfficientNet-Lite0 over 280
#: JPEGs, squashed and cropped (images of scikit-image and crops of them, 200 to 4000 pixels long). Top-1 was equal
#: whenever the full decode leads by 0.1. There, probabilities changed by up to 0.083 with a factor of 1, 0.070 with 1.5
#: and 0.046 with 2. The mean change was 0.009 with a scale, and 0.002 without.
_OVERSAMPLING: Final = 2


class NeedsPillow(Exception):
    """The fast decoder does not accept this JPEG."""


class EncodedImage:
    """A file as it was sent. Its header is read once, when it is first needed, a JPEG's up to `most_segments`."""

    def __init__(self, data: bytes | bytearray | memoryview, *, most_segments: int = MAX_SEGMENTS) -> None:
        self.data = bytes(data)
        self._most_segments = most_segments

    @cached_property
    def kind(self) -> str:
        """Pillow's name of the format. Raises UnsupportedMediaType and DamagedImage."""
        return format_of(self.data)

    @cached_property
    def _jpeg(self) -> JpegHeader | None:
        return read_header(self.data, self._most_segments)

    @property
    def is_quick(self) -> bool:
        """Whether it takes at most 4 ms of a core, even if it is hostile. A large file counts as slow without a look.

        Raises UnsupportedMediaType and DamagedImage.
        """
        if len(self.data) > QUICK_BYTES or self.kind != "JPEG":
            return False
        return self._jpeg is not None and self._jpeg.is_quick

    def cost(self, model: ModelDescription, max_pixels: int) -> Cost:
        """What it takes to decode it, by its header. Raises UnsupportedMediaType, DamagedImage and TooManyPixels."""
        if self.kind != "JPEG":
            cost = estimate(self.data, self.kind)
        elif self._jpeg is None:
            cost = LONG_HEADER
        else:
            divisor = _divisor(_crop(self._jpeg, model), model) if all(self._jpeg.dimensions) else 1
            cost = estimate_jpeg(self._jpeg, divisor, max(model.width, model.height))
        if cost.width and cost.height:
            check_pixels(cost.width, cost.height, max_pixels)
        return cost

    def to_pixels(self, model: ModelDescription, max_pixels: int, *, by_pillow: bool = True) -> bytes:
        """[height, width, channels] of the model's input, C order: uint8, or uint16 in steps of 1/256 (little-endian).

        Raises UnsupportedMediaType, DamagedImage and TooManyPixels, each with what to do about it, and nothing else.
        Without `by_pillow`, raises NeedsPillow if only Pillow can decode it.
        """
        if self.kind != "JPEG":
            return _by_pillow(self.data, self.kind, model, max_pixels)
        if self._jpeg is None:
            raise DamagedImage("The JPEG file has far too many segments. Save the image again.")
        if self._jpeg.size:
            pixels = _fast_jpeg(self._jpeg, model, max_pixels)
            if pixels is not None:
                return pixels
        if not by_pillow:
            raise NeedsPillow
        return _by_pillow(self._jpeg.bare(), "JPEG", model, max_pixels, self._jpeg.orientation)


def to_pixels(data: bytes | bytearray | memoryview, model: ModelDescription, max_pixels: int) -> bytes:
    """As EncodedImage's."""
    return EncodedImage(data).to_pixels(model, max_pixels)


def _fast_jpeg(header: JpegHeader, model: ModelDescription, max_pixels: int) -> bytes | None:
    check_pixels(*header.dimensions, max_pixels)
    crop = _crop(header, model)
    divisor = _divisor(crop, model)
    fast_dct = model.resize.fast_dct
    decoded = jpeg.decode(header, divisor, fast_dct=fast_dct, grey=fast_dct and model.channels == 1)
    if decoded is None:
        return None
    return _placed(resample(decoded, crop.scaled_by(divisor), model), crop, model)


def _crop(header: JpegHeader, model: ModelDescription) -> CropBox:
    return crop_box(*header.dimensions, header.orientation, model)


def _divisor(crop: CropBox, model: ModelDescription) -> int:
    """By how much the decoder may divide the sides of the image.

    Nearest and bilinear without antialiasing take single pixels, which only the full image has.
    """
    if model.resize.interpolation == "nearest" or not model.resize.antialias:
        return 1
    reduction = crop.reduction()
    return next((divisor for divisor in (8, 4, 2) if reduction >= divisor * _OVERSAMPLING), 1)


def _by_pillow(
    data: bytes, kind: str, model: ModelDescription, max_pixels: int, orientation: Orientation = UPRIGHT
) -> bytes:
    with _as_damaged_image(kind):
        cost = estimate(data, kind) if kind != "JPEG" else FREE
        check_pixels(cost.width, cost.height, max_pixels)
        image, own_orientation = pillow.load(data, kind, max_pixels)
        orientation = own_orientation if orientation == UPRIGHT else orientation
        crop = crop_box(image.width, image.height, orientation, model)
        return _placed(_scaled(image, crop, model), crop, model)


def _scaled(image: Image.Image, crop: CropBox, model: ModelDescription) -> bytes:
    convert = pillow.converter(image, model.channels)
    if not model.resize.rounded:
        return fixed_point(scale_unrounded(image, crop, model.resize, convert))
    return scale(image, crop, model.resize, convert, pillow.MODES[model.channels]).tobytes()


def _placed(stored: bytes, crop: CropBox, model: ModelDescription) -> bytes:
    """The model's input: the scaled pixels, upright, and black bars where they do not cover it."""
    is_whole = (crop.width, crop.height) == crop.orientation.size(model.width, model.height)
    if crop.orientation == UPRIGHT and is_whole:
        return stored
    pixels = np.frombuffer(stored, np.uint8 if model.resize.rounded else "<u2")
    upright = crop.orientation.apply(pixels.reshape(crop.height, crop.width, model.channels))
    if is_whole:
        return upright.tobytes()
    whole = np.zeros((model.height, model.width, model.channels), pixels.dtype)
    whole[crop.top : crop.top + upright.shape[0], crop.left : crop.left + upright.shape[1]] = upright
    return whole.tobytes()


def format_of(data: bytes) -> str:
    """Pillow's name of the format. Raises UnsupportedMediaType, or DamagedImage if only a part of a signature came."""
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"  # Most images are.
    if not data:
        raise DamagedImage("The file is empty. Send the whole file.")
    for image_format in FORMATS:
        if length := image_format.matches(data):
            if len(data) < length:
                if len(data) == 1 or not any(data):
                    raise DamagedImage("The data ends too early to tell its format. Send the whole file.")
                titles = " or ".join(one.title for one in FORMATS if one.matches(data))
                raise DamagedImage(
                    f"The {titles} file ends after {len(data)} bytes, in its header. Send the whole file."
                )
            return image_format.name
    if (begin := data[:64]).isascii() and begin.lstrip()[:1] in (b"{", b"["):
        raise UnsupportedMediaType(
            "The data looks like JSON. /predict reads JSON as the whole body, with the header "
            f"Content-Type: application/json. An image must be in an accepted format ({SUPPORTED})."
        )
    raise UnsupportedMediaType(
        f"The data is not in an accepted image format ({SUPPORTED}). Convert the image to one of them."
    )


@contextmanager
def _as_damaged_image(kind: str) -> Iterator[None]:
    """What decoders raise as a Problem. Their words are about their own workings, and say nothing to a client."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise _too_large(kind) from error
    except ReadBudgetExceeded as error:
        raise DamagedImage(f"The {TITLES[kind]} file consists of far too many small pieces. Save it again.") from error
    except _RAISED_BY_PILLOW as error:
        if "memory" in str(error).lower():  # libheif and libavif have no exceptions of their own for that.
            raise _too_large(kind) from error
        if isinstance(error, UnidentifiedImageError) or "nsupported" in str(error):
            raise DamagedImage(
                f"The {TITLES[kind]} file is damaged or of a rare kind. Send the whole file, or a PNG."
            ) from error
        raise DamagedImage(f"The {TITLES[kind]} file is damaged or incomplete. Send the whole file.") from error


def _too_large(kind: str) -> TooManyPixels:
    return TooManyPixels(f"The {TITLES[kind]} image is too large to be decoded. Scale it down before sending.")
