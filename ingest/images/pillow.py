"""Decodes PNG, WebP, the first frame of GIF, BMP, TIFF and unusual JPEG with Pillow, to grey or RGB."""

import warnings
from typing import Final

import numpy as np
from PIL import (  # noqa: F401  the plugins, named so that Pillow never goes looking for its forty others
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ingest.errors import TooManyPixels, UnsupportedMediaType
from ingest.images.bounded_reader import BoundedReader
from ingest.images.geometry import UPRIGHT, Orientation, orientation_of
from ingest.images.tiff import check_offsets, silence_libtiff

# Pillow warns of odd values in a file, up to once for each of 65,535 tags. That would flood the log, and Python keeps
# each text that it has shown. The client gets what matters; the log has no use for the rest.
warnings.filterwarnings("ignore", module=r"PIL\.")
silence_libtiff()

#: Pillow unpacks run-length encoded BMP in Python, pixel by pixel: about 0.1 microseconds each.
_MAX_RLE_PIXELS: Final = 4_000_000

_BITS_PER_SAMPLE: Final = 258

_WHITE: Final = (255, 255, 255)


def check_pixels(width: int, height: int, limit: int) -> None:
    """Refuse an image by the size in its header, before memory is allocated for it."""
    if width * height > limit:
        raise TooManyPixels(
            f"The image has {width} x {height} pixels; the limit is {limit}. Scale it down before sending."
        )


def open_image(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """Read and check the header of a file, without decoding pixels. Raises the errors of Pillow."""
    if kind == "TIFF":
        check_offsets(data)
    image = Image.open(BoundedReader(data), formats=(kind,))
    check_pixels(image.width, image.height, max_pixels)
    if kind == "BMP" and image.tile and image.tile[0].codec_name == "bmp_rle":
        check_pixels(image.width, image.height, _MAX_RLE_PIXELS)
    return image


def decode(image: Image.Image) -> Image.Image:
    """The pixels, in mode L or RGB. Raises the errors of Pillow, and UnsupportedMediaType."""
    image.load()
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(8, min(16, image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]))
    return to_opaque(image, bits)


def orientation_of_image(image: Image.Image) -> Orientation:
    """The orientation in EXIF. Pillow has already applied the tag of a TIFF, which has no other EXIF of its own."""
    exif = image.info.get("exif")
    return orientation_of(exif) if isinstance(exif, bytes) else UPRIGHT


def to_opaque(image: Image.Image, bits: int = 16) -> Image.Image:
    """A loaded image of any mode in mode L or RGB, on white, 16-bit samples scaled to 8.

    `bits` is the number of significant bits in a 16-bit sample. Raises UnsupportedMediaType.
    """
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnsupportedMediaType(
            "The image has 32 bits for each sample, and the value of white is not known. Save it with 8 or 16 bits."
        )
    if image.has_transparency_data or image.mode == "RGBa":
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
