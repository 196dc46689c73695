"""What Pillow lacks for TIFF: a limit on strips and tiles, samples that it takes for others, and a silent libtiff.

When Pillow opens a file, it makes an object of 300 bytes for every tile that the file names. 20 MB of offsets would
take more than a gigabyte.
"""

import contextlib
import ctypes
import struct
from typing import Final

from PIL import TiffImagePlugin, _imaging

from ingest.errors import DamagedImage, UnsupportedMediaType
from ingest.images.cost import tiff_tags, with_tiff_tag

_STRIP_OFFSETS: Final = 273
_TILE_OFFSETS: Final = 324
#: An image with strips of one row has as many strips as rows, or four times that if its channels are stored apart.
_MAX_PIECES: Final = 100_000

#: Entries of the directory that are checked: classic TIFF cannot have more.
_MAX_ENTRIES: Final = 65_535

_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_SAMPLES_PER_PIXEL: Final = 277
_PLANES: Final = 284
_COLOUR_MAP: Final = 320
_INKS: Final = 332
_EXTRA_SAMPLES: Final = 338
_SAMPLE_FORMAT: Final = 339
_DEEP: Final = (12, 16)
_BLACK_IS_ZERO: Final = 1
_APART: Final = 2
_UNSIGNED: Final = 1
_CMYK: Final = 1
#: Fax machines: 0 is white unless the file says otherwise.
_FAX: Final = ("tiff_ccitt", "group3", "group4", "tiff_raw_16")


def check_offsets(data: bytes) -> None:
    """Raise DamagedImage if the file has too many strips or tiles. Do nothing if its directory cannot be read."""
    order = "<" if data[:1] == b"I" else ">"
    big = 43 in data[2:4]
    # classic: 4-byte offset at 4, 2-byte count, 12-byte entries; BigTIFF: 8-byte offset at 8, 8-byte count, 20 bytes
    at, pointer, counter, entry, size = (8, "Q", "Q", "HHQ", 20) if big else (4, "I", "H", "HHI", 12)
    try:
        (directory,) = struct.unpack_from(order + pointer, data, at)
        (entries,) = struct.unpack_from(order + counter, data, directory)
        start = directory + struct.calcsize(order + counter)
        for position in range(start, min(start + min(entries, _MAX_ENTRIES) * size, len(data)), size):
            tag, _kind, count = struct.unpack_from(order + entry, data, position)
            if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and count > _MAX_PIECES:
                raise DamagedImage(
                    f"The TIFF file has {count} strips or tiles; the limit is {_MAX_PIECES}. Save it again."
                )
    except struct.error:
        return  # Pillow will say what is wrong with it.


def with_black_as_zero(data: bytes) -> tuple[bytes, bool]:
    """The file with 0 as black, if it has one deep sample per pixel and 0 as white, and whether that was so.

    Pillow inverts samples of up to 8 bits itself. Deeper ones it leaves as they are, or refuses the file. The caller
    inverts the decoded samples.
    """
    try:
        tags = tiff_tags(data, {_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _PHOTOMETRIC})
        deep = tags.get(_BITS_PER_SAMPLE) in _DEEP and tags.get(_SAMPLES_PER_PIXEL, 1) == 1
        if not deep or tags.get(_PHOTOMETRIC) != 0:
            return data, False
        return with_tiff_tag(data, _PHOTOMETRIC, _BLACK_IS_ZERO), True
    except struct.error:
        return data, False  # Pillow will say what is wrong with it.


def check_samples(image: TiffImagePlugin.TiffImageFile) -> None:
    """Raise UnsupportedMediaType if Pillow would take the samples of this image for others."""
    tags = image.tag_v2
    if image.mode not in ("I", "F") and set(_numbers(tags.get(_SAMPLE_FORMAT, _UNSIGNED))) != {_UNSIGNED}:
        raise UnsupportedMediaType("The TIFF has samples with a sign. Save it with unsigned samples of 8 or 16 bits.")
    deep = max(_numbers(tags.get(_BITS_PER_SAMPLE, 1))) > 8
    if deep and tags.get(_PLANES) == _APART and tags.get(_SAMPLES_PER_PIXEL, 1) > 1 and _is_raw(image):
        raise UnsupportedMediaType("The TIFF stores each channel of 16 bits apart. Save it with its channels together.")
    if image.mode == "CMYK" and tags.get(_INKS, _CMYK) != _CMYK:
        raise UnsupportedMediaType("The TIFF has inks that are not those of CMYK. Save it as RGB.")
    if _PHOTOMETRIC not in tags and image.mode not in ("RGB", "YCbCr") and image.info.get("compression") not in _FAX:
        raise UnsupportedMediaType("The TIFF does not say whether 0 is black or white. Save it as PNG.")


def correct(image: TiffImagePlugin.TiffImageFile) -> None:
    """Correct the palette or the alpha of a decoded image that does not follow the standard."""
    colours = image.tag_v2.get(_COLOUR_MAP)
    if image.mode == "P" and colours and max(colours) < 256:
        # The standard has 16 bits for each. libtiff, too, takes such a map for one of 8 bits.
        image.putpalette([colour for one in zip(*_thirds(colours), strict=True) for colour in one])
    if image.mode == "RGBA" and _EXTRA_SAMPLES not in image.tag_v2 and image.getchannel("A").getextrema() == (0, 0):
        # The file does not say that the fourth sample is alpha. With 0 in all pixels, it is not.
        image.putalpha(255)


def _thirds(colours: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    size = len(colours) // 3
    return colours[:size], colours[size : 2 * size], colours[2 * size : 3 * size]


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    return image.info.get("compression") == "raw"


def silence_libtiff() -> None:
    """Keep libtiff from writing to stderr: one line per bad row, thousands for one small file.

    Pillow raises an error all the same. It has no setting for this, so this function calls the library that Pillow's
    extension has loaded. In a Pillow that is built differently, libtiff continues to write.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = (ctypes.c_void_p,), ctypes.c_void_p
        set_handler(None)
