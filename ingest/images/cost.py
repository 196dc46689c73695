"""Estimates what it takes to decode a file, from its header alone: pixels, bytes of memory and seconds of one core.

Reads a few bytes of the header, whatever the file's size. A header that it cannot read costs nothing here, because the
decoder refuses it as well. An estimate can be wrong for a hostile file, so those that may be expensive are decoded in a
process with hard limits (ingest/images/worker_pool.py). Seconds are measured on one core of an EPYC with 50 megapixels.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import mul
from typing import Final

from ingest.images import heif
from ingest.images.jpeg import Frame, JpegHeader

#: Seconds per pixel: decoding, conversion and resampling.
_PNG_S: Final = 25e-9
_WEBP_S: Final = 25e-9
_GIF_S: Final = 16e-9
_BMP_S: Final = 16e-9
_RLE_BMP_S: Final = 150e-9
_TIFF_S: Final = 25e-9
_HEIF_S: Final = 16e-9
_AVIF_S: Final = 16e-9
#: Seconds per byte of the file, for data that does not compress.
_BYTE_S: Final = 15e-9
#: The codecs of video take longer for each byte. Measured: HEIC 100, AVIF 40 nanoseconds.
_HEIF_BYTE_S: Final = 100e-9
_AVIF_BYTE_S: Final = 40e-9

#: Bytes per pixel for WebP: libwebp's two canvases and its own pixels, and two copies by Pillow. Measured: 16 to 19.
_WEBP_BYTES: Final = 20

#: Bytes per pixel: the decoder's planes, their conversion, and two copies. Measured: 7.4 to 8.7 for HEIC as phones
#: write it (16 with full chroma of 10 bits, which the process's own limit stops), 9 to 12 for AVIF.
_HEIF_BYTES: Final = 9
_AVIF_BYTES: Final = 12

#: Pillow's bytes per pixel of a PNG, by colour type; a grey image of 16 bits has two.
_PNG_BYTES: Final = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}

_FIXED_BYTES: Final = 2**20

#: Of a JPEG: seconds per pixel, and per sample of each further scan.
_JPEG_S: Final = 4e-9
_JPEG_SCAN_S: Final = 0.7e-9
#: libjpeg keeps a coefficient of 2 bytes for each sample if there are several scans.
_JPEG_COEFFICIENT_BYTES: Final = 2
_JPEG_BYTES: Final = 4
#: Seconds per pixel of the image that is scaled along its rows alone, which a tall image makes large.
_NARROW_S: Final = 6e-9

#: A TIFF file has some twenty tags. The decoder reads the others.
_MAX_TAGS: Final = 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """`pixels` are those of the image, or of the decoder's own buffer where that is larger."""

    pixels: int
    memory_bytes: int
    seconds: float
    width: int = 0
    height: int = 0


FREE: Final = Cost(0, 0, 0.0)

#: Of a JPEG with more segments than any encoder writes: to tell would itself take long.
LONG_HEADER: Final = Cost(0, 0, 0.2)


def estimate(data: bytes, kind: str) -> Cost:
    """The cost of a file of any format except JPEG. Raises DamagedImage if its header is far too long."""
    try:
        return _ESTIMATES[kind](data)
    except (struct.error, IndexError, ValueError, OverflowError):  # The last one for an offset beyond 63 bits.
        return FREE


def estimate_jpeg(header: JpegHeader, divisor: int, input_side: int) -> Cost:
    """The cost of decoding a JPEG with each side divided, and of scaling it to an input of at most that side."""
    width, height = header.dimensions
    divisor = divisor if header.size else 1
    pixels, narrow = width * height, input_side * height // divisor
    memory = (pixels // divisor**2 + narrow) * _JPEG_BYTES
    seconds = pixels * _JPEG_S + narrow * _NARROW_S + len(header.data) * _BYTE_S
    if header.scans > 1:
        samples = pixels * _samples(header.frame)
        memory += int(samples * _JPEG_COEFFICIENT_BYTES)
        seconds += samples * header.scans * _JPEG_SCAN_S
    return Cost(pixels, memory, seconds, width, height)


def _samples(frame: Frame) -> float:
    """The number of samples per pixel: 1.5 with the usual subsampling, 3 if the header does not say."""
    across, down = [one >> 4 for one in frame.sampling], [one & 15 for one in frame.sampling]
    return sum(map(mul, across, down)) / max(1, max(across) * max(down)) if across else 3.0


def _cost(
    width: int, height: int, bytes_per_pixel: float, pixel_s: float, data: bytes, byte_s: float = _BYTE_S
) -> Cost:
    pixels = width * height
    memory = int(pixels * bytes_per_pixel) + _FIXED_BYTES
    return Cost(pixels, memory, pixels * pixel_s + len(data) * byte_s, width, height)


def _png(data: bytes) -> Cost:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    return _cost(width, height, _PNG_BYTES.get(colour, 4) * (2 if bits == 16 and colour == 0 else 1), _PNG_S, data)


def _webp(data: bytes) -> Cost:
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        case b"VP8L":
            packed = int.from_bytes(data[21:25], "little")
            width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case _:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return _cost(width, height, _WEBP_BYTES, _WEBP_S, data)


def _heif(data: bytes) -> Cost:
    return _cost(*heif.largest_size(data), _HEIF_BYTES, _HEIF_S, data, _HEIF_BYTE_S)


def _avif(data: bytes) -> Cost:
    return _cost(*heif.largest_size(data), _AVIF_BYTES, _AVIF_S, data, _AVIF_BYTE_S)


def _gif(data: bytes) -> Cost:
    width, height = struct.unpack_from("<HH", data, 6)
    return _cost(width, height, 2, _GIF_S, data)


def _bmp(data: bytes) -> Cost:
    if data[14] == 12:
        width, height, _planes, bits = struct.unpack_from("<HHHH", data, 18)
        return _cost(width, height, _bmp_bytes(bits), _BMP_S, data)
    width, height, _planes, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    return _cost(abs(width), abs(height), _bmp_bytes(bits), _RLE_BMP_S if compression in {1, 2} else _BMP_S, data)


def _bmp_bytes(bits: int) -> int:
    return 1 if bits <= 8 else 4


_WIDTH, _LENGTH, _BITS, _SAMPLES, _STRIP_ROWS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 258, 277, 278, 322, 323


def _tiff(data: bytes) -> Cost:
    tags = tiff_tags(data, {_WIDTH, _LENGTH, _SAMPLES, _STRIP_ROWS, _TILE_WIDTH, _TILE_LENGTH})
    width, height, samples = tags.get(_WIDTH, 0), tags.get(_LENGTH, 0), tags.get(_SAMPLES, 1)
    # Pillow stores 1 or 4 bytes per pixel, 2 if one sample has 16 bits. libtiff's buffer has up to 2 bytes per sample.
    stored = 2 if samples == 1 else 4
    buffer = width * min(height, tags.get(_STRIP_ROWS, height))
    if _TILE_WIDTH in tags:
        buffer = tags[_TILE_WIDTH] * tags.get(_TILE_LENGTH, 0)
    pixels = max(width * height, buffer)
    memory = width * height * stored + buffer * samples + _FIXED_BYTES
    return Cost(pixels, memory, pixels * _TIFF_S + len(data) * _BYTE_S, width, height)


def tiff_tags(data: bytes, wanted: set[int]) -> dict[int, int]:
    """The first value of these tags in the first directory, if the value is a whole number. Raises struct.error."""
    order = _byte_order(data)
    return {
        tag: struct.unpack_from(order + _WHOLE_NUMBERS[kind], data, at)[0]
        for tag, kind, at in _tiff_entries(data)
        if tag in wanted and kind in _WHOLE_NUMBERS
    }


def with_tiff_tag(data: bytes, wanted: int, value: int) -> bytes:
    """The file with another first value of this tag, if that is a whole number. Raises struct.error."""
    changed = bytearray(data)
    for tag, kind, at in _tiff_entries(data):
        if tag == wanted and kind in _WHOLE_NUMBERS:
            struct.pack_into(_byte_order(data) + _WHOLE_NUMBERS[kind], changed, at, value)
    return bytes(changed)


def _byte_order(data: bytes) -> str:
    return "<" if data[:1] == b"I" else ">"


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Tag, type and position of the value, or of the offset of a long value. Raises struct.error."""
    order = _byte_order(data)
    # Classic: 4-byte offset at 4, 2-byte count, entries of 12 bytes. BigTIFF: 8-byte offset at 8, 8-byte count, 20
    # bytes.
    big = 43 in data[2:4]
    at, pointer, counter, size, value = (8, "Q", "Q", 20, 12) if big else (4, "I", "H", 12, 8)
    (directory,) = struct.unpack_from(order + pointer, data, at)
    (entries,) = struct.unpack_from(order + counter, data, directory)
    start = directory + struct.calcsize(order + counter)
    for position in range(start, min(start + min(entries, _MAX_TAGS) * size, len(data) - size + 1), size):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        yield tag, kind, position + value


#: BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG, IFD and LONG8.
_WHOLE_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}

_ESTIMATES: Final[dict[str, Callable[[bytes], Cost]]] = {
    "PNG": _png,
    "WEBP": _webp,
    "HEIF": _heif,
    "AVIF": _avif,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
}
