"""Every format that Pillow decodes in full: PNG, WebP, GIF's first frame, BMP, TIFF, unusual JPEG. Knows no model."""

import warnings
from typing import Final

from PIL import (  # noqa: F401  the plugins, named so that Pillow never goes looking for its forty others
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ingest.errors import TooManyPixels
from ingest.images.bounded_reader import BoundedReader
from ingest.images.colours import opaque
from ingest.images.orientation import UPRIGHT, Turn, turn_of
from ingest.images.tiff import check_offsets, silence_libtiff

# Pillow warns of what it finds odd in a file, up to once for each of 65,535 tags and their values: a flood in the
# log, and Python keeps each text that it has shown. Clients are told what matters; the log has no use for the rest.
warnings.filterwarnings("ignore", module=r"PIL\.")
silence_libtiff()

#: Pillow unpacks run-length-encoded BMP in Python, pixel by pixel: about 0.1 microseconds each.
_MOST_RLE_PIXELS: Final = 4_000_000

_BITS_PER_SAMPLE: Final = 258


def check_pixels(width: int, height: int, most: int) -> None:
    """Refuse a picture by what its header says, before memory is taken for it."""
    if width * height > most:
        raise TooManyPixels(
            f"The picture has {width} x {height} pixels; at most {most} are taken. Scale it down before sending."
        )


def open_image(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """The file's header, read and checked; no pixel is decoded yet. Raises what Pillow raises."""
    if kind == "TIFF":
        check_offsets(data)
    image = Image.open(BoundedReader(data), formats=(kind,))
    check_pixels(image.width, image.height, max_pixels)
    if kind == "BMP" and image.tile and image.tile[0].codec_name == "bmp_rle":
        check_pixels(image.width, image.height, _MOST_RLE_PIXELS)
    return image


def decode(image: Image.Image) -> Image.Image:
    """The pixels, in mode L or RGB. Raises what Pillow raises, and UnsupportedMediaType."""
    image.load()
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(8, min(16, image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]))
    return opaque(image, bits)


def turn_of_image(image: Image.Image) -> Turn:
    """What EXIF asks for. A TIFF's tag was obeyed by Pillow already; it has no other EXIF of its own."""
    exif = image.info.get("exif")
    return turn_of(exif) if isinstance(exif, bytes) else UPRIGHT
