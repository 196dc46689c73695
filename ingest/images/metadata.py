"""Finds the orientation in the metadata of a file, in each form that Pillow obeys, and takes metadata away from Pillow.

Pillow copies every tag and inflates every text, and refuses a file whose metadata is too large. Metadata must never
cost an image. So this module reads one tag by hand and hands Pillow only what holds pixels.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from ingest.errors import DamagedImage
from ingest.images.geometry import ORIENTATIONS, UPRIGHT, Orientation

_ORIENTATION: Final = 0x0112

#: The numbers among EXIF's types: SHORT, LONG, RATIONAL, SBYTE, SSHORT, SLONG, SRATIONAL, FLOAT, DOUBLE, IFD and LONG8.
#: Pillow does not obey BYTE, because it reads that type as text.
_NUMBERS: Final = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}

#: Entries of one EXIF directory that are read. Cameras write about thirty.
_MAX_ENTRIES: Final = 2000

#: Bytes of inflated text that are read. EXIF and XMP with an orientation take some kilobytes.
_MAX_TEXT: Final = 2**20

#: Bytes of metadata in which an orientation is looked for.
MAX_SEARCHED: Final = 2**20

#: Chunks in one file. A PNG of 20 MB from libpng's default has 2,500.
_MAX_CHUNKS: Final = 400_000

_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

EXIF_MARK: Final = b"Exif\0\0"


def orientation_of(exif: bytes, xmp: bytes = b"") -> Orientation:
    """The orientation in raw EXIF (a TIFF structure, perhaps after `Exif\\0\\0`), else in XMP, else upright.

    Damaged metadata counts as none: an image without an orientation is still an image.
    """
    value = _exif_value(exif)
    if value is None and (match := _XMP_ORIENTATION.search(xmp[:MAX_SEARCHED])):
        value = int(match[1])
    return UPRIGHT if value is None else ORIENTATIONS.get(value, UPRIGHT)


def _exif_value(exif: bytes) -> float | None:
    """The value of the tag, None if there is none. The last one counts, as in Pillow."""
    tiff = exif[: 12 + MAX_SEARCHED].removeprefix(EXIF_MARK).removeprefix(EXIF_MARK)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    found: float | None = None
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * min(entries, _MAX_ENTRIES), 12):
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == _ORIENTATION:
                found = _number(tiff, order, kind, count, entry + 8)
    except struct.error:
        return found  # The directory lies outside the data.
    return found


def _number(tiff: bytes, order: str, kind: int, count: int, at: int) -> float:
    """The first value of an entry; 0, which is no orientation, if it is no number."""
    layout = order + _NUMBERS.get(kind, "")
    size = struct.calcsize(layout)
    if not size or not count:
        return 0
    if size * count > 4:
        (at,) = struct.unpack_from(order + "I", tiff, at)
    value, *denominator = struct.unpack_from(layout, tiff, at)
    if denominator:
        return float(value / denominator[0]) if denominator[0] else 0
    return float(value)


def png_pixels(data: bytes) -> tuple[bytes, Orientation]:
    """A PNG with nothing but its pixels, and its orientation. An animation keeps its default image."""
    kept, exif, raw_profile, xmp = [data[:8]], b"", b"", b""
    for name, start, end in _png_chunks(data):
        body = data[start + 8 : end - 4]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[start:end])
        elif name == b"eXIf":
            exif = body
        elif name in (b"tEXt", b"zTXt") and body.startswith(b"Raw profile type exif\0"):
            raw_profile = _png_text(name, body)
        elif name == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            xmp = _international_text(body)
    return b"".join(kept), orientation_of(exif or _from_hexadecimal(raw_profile), xmp)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk, as far as the file is there."""
    position = 8
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4])
        name = data[position + 4 : position + 8]
        end = position + 12 + length
        if len(name) < 4:
            return
        yield name, position, end
        if name == b"IEND":
            return
        position = end
    raise DamagedImage(f"The PNG file has more than {_MAX_CHUNKS} chunks. Save it again.")


def _png_text(name: bytes, body: bytes) -> bytes:
    text = body.partition(b"\0")[2]
    return _inflated(text[1:]) if name == b"zTXt" else text


def _international_text(body: bytes) -> bytes:
    flags, _, rest = body.partition(b"\0")[2][:2], None, body.partition(b"\0")[2][2:]
    _language, _, rest = rest.partition(b"\0")
    _keyword, _, text = rest.partition(b"\0")
    return _inflated(text) if flags[:1] == b"\1" else text


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _MAX_TEXT)
    except zlib.error:
        return b""


def _from_hexadecimal(raw_profile: bytes) -> bytes:
    """ImageMagick's form of EXIF: a line feed, the name, the length, then lines of hexadecimal digits."""
    try:
        return bytes.fromhex("".join(raw_profile[:_MAX_TEXT].decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""


def webp_orientation(data: bytes) -> Orientation:
    """The orientation of a WebP."""
    found = {b"EXIF": b"", b"XMP ": b""}
    position = 12
    for _ in range(_MAX_CHUNKS):
        name = data[position : position + 4]
        if len(name) < 4:
            break
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if found.get(name) == b"":
            found[name] = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return orientation_of(found[b"EXIF"], found[b"XMP "])
