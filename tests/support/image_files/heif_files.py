"""HEIC files that no camera writes, put together box by box (ISO 23008-12)."""

import struct

from PIL import Image

from tests.support.images import encoded

TILE = 512


def grid(rows: int, columns: int, width: int, height: int, *, quality: int = 10) -> bytes:
    """An image of `width` x `height` in the file, cut from a grid whose tiles all are one black tile of 512 x 512."""
    tile = encoded(Image.new("RGB", (TILE, TILE)), "HEIF", quality=quality, preset="ultrafast")
    codec = _contents(tile, b"hvcC")
    pixels = _contents(tile, b"mdat")
    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    length = len(_meta(codec, rows, columns, width, height, 0, len(pixels)))
    start = len(head) + length + 8
    return head + _meta(codec, rows, columns, width, height, start, len(pixels)) + box(b"mdat", pixels)


def box(name: bytes, *contents: bytes) -> bytes:
    """One box of the container."""
    body = b"".join(contents)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _contents(data: bytes, name: bytes) -> bytes:
    at = data.index(name) - 4
    return data[at + 8 : at + struct.unpack_from(">I", data, at)[0]]


def _meta(codec: bytes, rows: int, columns: int, width: int, height: int, start: int, length: int) -> bytes:
    """Item 1 is the grid, in `idat`; item 2 is the tile, at `start` of the file."""
    count = rows * columns
    infe = [
        box(b"infe", struct.pack(">IHH4sB", 2 << 24, item, 0, kind, 0)) for item, kind in ((1, b"grid"), (2, b"hvc1"))
    ]
    properties = box(
        b"ipco",
        box(b"ispe", struct.pack(">III", 0, TILE, TILE)),
        box(b"hvcC", codec),
        box(b"ispe", struct.pack(">III", 0, width, height)),
    )
    associations = struct.pack(">II HBB HBBB", 0, 2, 1, 1, 3, 2, 2, 1, 0x82)
    where = struct.pack(">I HH HHHHII HHHHII", 1 << 24, 0x4400, 2, 1, 1, 0, 1, 0, 12, 2, 0, 0, 1, start, length)
    tiles = struct.pack(">HH", 1, count) + struct.pack(">H", 2) * count
    return box(
        b"meta",
        bytes(4),
        box(b"hdlr", bytes(8), b"pict", bytes(13)),
        box(b"pitm", struct.pack(">IH", 0, 1)),
        box(b"iloc", where),
        box(b"iinf", struct.pack(">IH", 0, 2), *infe),
        box(b"iref", bytes(4), box(b"dimg", tiles)),
        box(b"iprp", properties, box(b"ipma", associations)),
        box(b"idat", struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)),
    )
