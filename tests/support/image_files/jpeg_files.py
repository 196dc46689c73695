"""JPEG files that no camera writes, put together segment by segment (ITU-T T.81, annex B)."""

import struct

from PIL import Image

from tests.support.images import encoded

#: One code of one bit, for the symbol 0: nothing changes.
_NO_CHANGE = bytes((1, *[0] * 15, 0))


def segment(marker: int, body: bytes) -> bytes:
    """A marker, the length, and the body."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def lossless(side: int) -> bytes:
    """A square of grey 128 in lossless coding, which keeps its size however it is to be scaled."""
    channels = bytes((1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xC4, b"\0" + _NO_CHANGE),
            segment(0xC3, struct.pack(">BHHB", 8, side, side, 3) + channels),
            segment(0xDA, bytes((3, 1, 0, 2, 0, 3, 0, 1, 0, 0))),
            bytes(side * side * 3 // 8 + 1),
            b"\xff\xd9",
        )
    )


def with_exif_in_pieces(pieces: int, size: int) -> bytes:
    """EXIF that goes on from segment to segment."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    return data[:2] + segment(0xE1, b"Exif\0\0" + bytes(size)) * pieces + data[2:]


def with_profiles_in_pieces(pieces: int, size: int) -> bytes:
    """Colour profiles in many segments, of which the decoder keeps a copy each."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    heads = (b"ICC_PROFILE\0" + bytes((number % 255 + 1, 255)) for number in range(pieces))
    return data[:2] + b"".join(segment(0xE2, head + bytes(size)) for head in heads) + data[2:]


def progressive_of_one_byte(size: int, pair: bytes) -> bytes:
    """A progressive image whose first scan repeats two bytes, which are almost a marker."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    start = data.index(b"\xff\xda") + 14
    return data[:start] + pair * (size // 2) + data[-2:]


def with_hidden_scans(side: int, comments: int, scans: int) -> bytes:
    """A progressive image with many comments behind its first scan, and then many scans."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    last = data.rindex(b"\xff\xda")
    return data[:second] + segment(0xFE, b"") * comments + data[second:-2] + data[last:-2] * scans + data[-2:]
