"""What Pillow leaves open about TIFF: how many pieces a file says it has, and that libtiff is silent. Decodes nothing.

Pillow makes an object of 300 bytes for every tile that the file names, when it opens the file: 20 MB of offsets
would take more than a gigabyte.
"""

import contextlib
import ctypes
import struct
from typing import Final

from PIL import _imaging

from ingest.errors import DamagedImage

_STRIP_OFFSETS: Final = 273
_TILE_OFFSETS: Final = 324
#: A picture of one-row strips has as many as it has rows, four times that where its channels are stored apart.
_MOST_PIECES: Final = 100_000


def check_offsets(data: bytes) -> None:
    """Raises DamagedImage for a file of too many strips or tiles; silent where the directory can't be read."""
    order = "<" if data[:1] == b"I" else ">"
    big = 43 in data[2:4]
    # classic: 4-byte offset at 4, 2-byte count, 12-byte entries; BigTIFF: 8-byte offset at 8, 8-byte count, 20 bytes
    at, pointer, counter, entry, size = (8, "Q", "Q", "HHQ", 20) if big else (4, "I", "H", "HHI", 12)
    try:
        (directory,) = struct.unpack_from(order + pointer, data, at)
        (entries,) = struct.unpack_from(order + counter, data, directory)
        start = directory + struct.calcsize(order + counter)
        for position in range(start, min(start + entries * size, len(data)), size):
            tag, _kind, count = struct.unpack_from(order + entry, data, position)
            if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and count > _MOST_PIECES:
                raise DamagedImage(
                    f"The TIFF file has {count} strips or tiles; at most {_MOST_PIECES} are taken. Save it anew."
                )
    except struct.error:
        return  # Pillow says what is wrong with it


def silence_libtiff() -> None:
    """Keep libtiff from writing to the error output: one line for each bad row, thousands for one small file.

    Pillow raises all the same. It offers no setting for this, so the library that its extension has loaded
    is told directly; where that is built otherwise, libtiff goes on talking.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = (ctypes.c_void_p,), ctypes.c_void_p
        set_handler(None)
