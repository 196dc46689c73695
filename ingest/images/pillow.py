"""Decodes every format with Pillow, and of JPEG what is unusual. Of several frames, it takes the first.

Pillow holds the decoded image once, in its own mode. Nothing here makes a second copy of the whole image: `converter`
converts one strip of rows at a time (ingest/images/resampling.py).
"""

import warnings
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import (  # noqa: F401  the plugins, named so that Pillow never goes looking for its forty others
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ingest.errors import DamagedImage, UnsupportedMediaType
from ingest.images import heif, metadata, tiff
from ingest.images.bounded_reader import BoundedReader
from ingest.images.formats import HEIC_NEEDS, enable_heic
from ingest.images.geometry import UPRIGHT, Orientation, check_pixels

# Pillow warns of odd values in a file, up to once for each of 65,535 tags. That would flood the log, and Python keeps
# each text that it has shown. The client gets what matters; the log has no use for the rest.
warnings.filterwarnings("ignore", module=r"PIL\.")
tiff.silence_libtiff()

# Else the decoder starts a thread for each core.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

#: Pillow unpacks run-length encoded BMP in Python, pixel by pixel: about 0.1 microseconds each.
_MAX_RLE_PIXELS: Final = 4_000_000

_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_BLACK_IS_ZERO: Final = 1

#: Where a PNG says how many bits a sample has: 8 bytes of signature, a chunk's length and name, width and height.
_PNG_BITS: Final = 24

_WHITE: Final = (255, 255, 255)

#: The mode of a model's input, by its number of channels.
MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}


def load(data: bytes, kind: str, max_pixels: int) -> tuple[Image.Image, Orientation]:
    """The decoded image in its own mode, and how to make it upright. Raises the errors of Pillow.

    libheif turns HEIC itself. For AVIF, Pillow has the container's orientation in the form of EXIF.
    """
    orientation, white_is_zero = UPRIGHT, False
    if kind == "PNG":
        data, orientation = metadata.png_pixels(data)
    elif kind == "WEBP":
        orientation = metadata.webp_orientation(data)
    elif kind in ("HEIF", "AVIF"):
        _require_decoder(kind)
        data = heif.without_metadata(data)
    elif kind == "TIFF":
        tiff.check_offsets(data)
        data, white_is_zero = tiff.with_black_as_zero(data)
    image = Image.open(BoundedReader(data), formats=(kind,))
    check_pixels(image.width, image.height, max_pixels)
    if kind == "AVIF":
        orientation = metadata.orientation_of(image.info.get("exif", b""))
    if kind == "BMP" and image.tile and image.tile[0].codec_name == "bmp_rle":
        check_pixels(image.width, image.height, _MAX_RLE_PIXELS)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff.check_samples(image)
        image.load()
        tiff.correct(image)
        image.info["white_is_zero"] = white_is_zero or not image.tag_v2.get(_PHOTOMETRIC, _BLACK_IS_ZERO)
        return image, orientation
    image.load()
    if kind == "PNG":
        _check_colours(image, data)
    elif kind == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        # Windows writes 0 into the fourth byte if it means nothing. Such an image is opaque, not invisible.
        image.putalpha(255)
    return image, orientation


def _check_colours(image: Image.Image, data: bytes) -> None:
    """Correct the transparent grey of a PNG, and refuse colours that Pillow would take for others.

    Raises DamagedImage and UnsupportedMediaType.
    """
    bits, transparent = data[_PNG_BITS], image.info.get("transparency")
    if image.mode == "P":
        colours = len(image.palette.palette) // 3 if image.palette else 0
        if int(image.getextrema()[1]) >= colours:  # type: ignore[arg-type]  # one channel
            raise DamagedImage("The PNG file is damaged: its palette lacks a colour. Send the whole file.")
    elif image.mode == "L" and isinstance(transparent, int) and bits < 8:
        # Pillow spreads the samples over 0..255, but not this one.
        most = 2**bits - 1
        image.info["transparency"] = (transparent & most) * 255 // most
    elif image.mode == "RGB" and transparent is not None and bits == 16:
        # Pillow keeps 8 bits of each sample, and 16 of the transparent colour.
        raise UnsupportedMediaType(
            "The PNG has samples of 16 bits and a transparent colour. Save it with 8 bits or with an alpha channel."
        )


def _require_decoder(kind: str) -> None:
    if kind == "HEIF" and not enable_heic():
        raise UnsupportedMediaType(f"This service cannot decode HEIC. Send a JPEG. {HEIC_NEEDS}.")
    if kind == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise UnsupportedMediaType("This service's Pillow cannot decode AVIF. Send a JPEG, or install Pillow's wheel.")


def converter(image: Image.Image, channels: int) -> Callable[[Image.Image], Image.Image] | None:
    """Converts a strip of this image to the mode of so many channels; None if the image has that mode already.

    Transparent pixels become white, except in RGBA. Raises UnsupportedMediaType if the colours are not known.
    """
    if image.mode in ("I", "F"):
        raise UnsupportedMediaType(
            "The image has 32 bits for each sample, and the value of white is not known. Save it with 8 or 16 bits."
        )
    if image.mode in ("LAB", "HSV"):
        raise UnsupportedMediaType(f"The image has colours in {image.mode}. Save it as RGB.")
    if image.mode == MODES[channels] and "transparency" not in image.info and channels != 4:
        return None
    if image.mode.startswith("I;16"):
        return lambda strip: _in_mode(_from_16_bits(image, strip), MODES[channels])
    return lambda strip: _in_mode(strip, MODES[channels])


def _from_16_bits(image: Image.Image, strip: Image.Image) -> Image.Image:
    """A strip of 16-bit samples as L, or as LA if one value is transparent. Pillow's own conversion clips at 255."""
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(8, min(16, image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]))
    samples = np.asarray(strip)
    grey = (samples >> (bits - 8)).astype(np.uint8)
    result = Image.fromarray(255 - grey if image.info.get("white_is_zero") else grey)
    if isinstance(transparent := image.info.get("transparency"), int):
        result.putalpha(Image.fromarray(np.where(samples == transparent, np.uint8(0), np.uint8(255))))
    return result


def _in_mode(strip: Image.Image, mode: str) -> Image.Image:
    if mode == "RGBA":
        return strip.convert("RGBA")
    if strip.mode == "La":
        strip = strip.convert("LA")
    if strip.has_transparency_data or strip.mode == "RGBa":
        layer = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer)
    if strip.mode in ("1", "L"):
        return strip.convert(mode)
    # By way of RGB, since Pillow converts some modes to grey in another way.
    return strip.convert("RGB").convert(mode)
