"""What Pillow lacks for TIFF: a limit on strips and tiles, deep images whose white is zero, and a silent libtiff.

When Pillow opens a file, it makes an object of 300 bytes for every tile that the file names. 20 MB of offsets would
take more than a gigabyte.
"""

import contextlib
import ctypes
import struct
from typing import Final, Literal

from PIL import _imaging

from ingest.errors import DamagedImage
from ingest.images.cost import tiff_tag_position, tiff_tags

_STRIP_OFFSETS: Final = 273
_TILE_OFFSETS: Final = 324
#: An image with strips of one row has as many strips as rows, or four times that if its channels are stored apart.
_MAX_PIECES: Final = 100_000

#: Entries of the directory that are checked: classic TIFF cannot have more.
_MAX_ENTRIES: Final = 65_535

_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_SAMPLES_PER_PIXEL: Final = 277
_DEEP: Final = (12, 16)
_BLACK_IS_ZERO: Final = 1


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
        at = tiff_tag_position(data, _PHOTOMETRIC)
    except struct.error:
        return data, False  # Pillow will say what is wrong with it.
    deep = tags.get(_BITS_PER_SAMPLE) in _DEEP and tags.get(_SAMPLES_PER_PIXEL, 1) == 1
    if not deep or tags.get(_PHOTOMETRIC) != 0 or at is None:
        return data, False
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    return data[:at] + _BLACK_IS_ZERO.to_bytes(2, order) + data[at + 2 :], True


def silence_libtiff() -> None:
    """Keep libtiff from writing to stderr: one line per bad row, thousands for one small file.

    Pillow raises an error all the same. It has no setting for this, so this function calls the library that Pillow's
    extension has loaded. In a Pillow that is built differently, libtiff continues to write.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = (ctypes.c_void_p,), ctypes.c_void_p
        set_handler(None)
