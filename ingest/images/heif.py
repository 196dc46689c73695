"""Reads the container of HEIC and AVIF (ISO 14496-12, ISO 23008-12): boxes of a length, a name and contents.

    ftyp                      the brands
    meta ─┬─ iinf ── infe     each item: an image, a tile, EXIF or XMP
          └─ iprp ── ipco ── ispe    sizes of images, in pixels
    moov ── trak ── tkhd      the same for sequences

The container itself says how to turn and mirror an image (irot, imir). EXIF only repeats that, and decoders must ignore
its orientation (ISO 23008-12, A.2.1). So an image is turned exactly once.
"""

import struct
from collections.abc import Iterator
from typing import Final

from ingest.errors import DamagedImage

#: Boxes within one other. An image of 48 megapixels from a phone has 200 tiles.
_MAX_BOXES: Final = 4096

#: Boxes whose contents begin with a version and flags, and how many bytes come before the inner boxes.
_BEFORE_INNER: Final = {b"meta": 4}

#: Position of the type in an item's entry, by the version of the entry.
_ITEM_TYPE: Final = {2: 8, 3: 10}

#: A type that no decoder knows.
_SKIPPED: Final = b"skip"


def largest_size(data: bytes) -> tuple[int, int]:
    """Width and height of the largest image in the container, before it is turned. Raises struct.error, DamagedImage.

    The image itself is never smaller than its tiles, its thumbnails, or its depth map.
    """
    sizes = [
        struct.unpack_from(">II", data, start + 4) for start, _ in _inner(data, b"meta", b"iprp", b"ipco", b"ispe")
    ]
    for _, end in _inner(data, b"moov", b"trak", b"tkhd"):
        width, height = struct.unpack_from(">II", data, end - 8)
        sizes.append((width >> 16, height >> 16))
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def without_metadata(data: bytes) -> bytes:
    """The same file with EXIF and XMP hidden from the decoder, which would refuse the image if they are damaged."""
    changed = bytearray(data)
    for start, end in _inner(data, b"meta", b"iinf"):
        entries = start + (8 if data[start] else 6)
        for entry, _ in _boxes_named(data, b"infe", entries, end):
            at = entry + _ITEM_TYPE.get(data[entry], len(data))
            if data[at : at + 4] in (b"Exif", b"mime"):
                changed[at : at + 4] = _SKIPPED
    return bytes(changed)


def _inner(data: bytes, *path: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the contents of each box at the end of the path, of which the first box counts at each step."""
    start, end = 0, len(data)
    for name in path[:-1]:
        first = next(_boxes_named(data, name, start, end), None)
        if first is None:
            return
        start, end = first[0] + _BEFORE_INNER.get(name, 0), first[1]
    yield from _boxes_named(data, path[-1], start, end)


def _boxes_named(data: bytes, wanted: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of the contents of the boxes of that name between two positions, as far as the data is there."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, start)
        contents = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, contents)
            contents += 8
        stop = start + size if size else end
        if stop < contents or stop > end:
            return  # The decoder will say what is wrong with it.
        if name == wanted:
            yield contents, stop
        start = stop
    raise DamagedImage(f"The file has more than {_MAX_BOXES} boxes in one. Save it again.")
