"""Metadata turns an image as Pillow turns it, in every spelling, and never costs an image."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ingest.images.decode import to_pixels
from ingest.images.metadata import orientation_of
from tests.support.hostile_images import png_with_profile
from tests.support.images import chunk, encoded, model, scene

MOST = 50_000_000
WIDE = Image.new("RGB", (40, 20), (255, 0, 0))

_LAYOUTS = {1: "B", 2: "2s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}


def exif(kind: int, count: int, order: str) -> bytes:
    """One tag, orientation 6, as a value of this type."""
    values: dict[int, list[Any]] = {2: [b"6"], 5: [6, 1], 10: [6, 1]}
    value = values.get(kind, [6])
    raw = struct.pack(order + _LAYOUTS[kind], *value) * count
    at = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", 8 + 2 + 12 + 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 1)
    rest = b"" if len(raw) <= 4 else raw
    return b"Exif\0\0" + head + struct.pack(order + "HHI", 0x0112, kind, count) + at + bytes(4) + rest


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", sorted(_LAYOUTS))
def test_the_orientation_counts_in_the_types_in_which_it_counts_for_pillow(kind: int, count: int, order: str) -> None:
    """SHORT as the standard says, and LONG, rationals and others, as some software writes."""
    file = encoded(WIDE, "JPEG", exif=exif(kind, count, order))
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of a second value.
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert orientation_of(exif(kind, count, order)).size(40, 20) == upright.size


def _png_with(*extra: bytes) -> bytes:
    data = encoded(scene(40, 20), "PNG")
    return data[:33] + b"".join(extra) + data[33:]


def _xmp(number: int, *, element: bool) -> bytes:
    return (
        f"<tiff:Orientation>{number}</tiff:Orientation>" if element else f'<x tiff:Orientation="{number}"/>'
    ).encode()


def _raw_profile(raw: bytes) -> bytes:
    return b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"


SHORT = exif(3, 1, "<")
SPELLINGS = {
    "eXIf": _png_with(chunk(b"eXIf", SHORT[6:])),
    "zTXt": _png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(_raw_profile(SHORT)))),
    "tEXt": _png_with(chunk(b"tEXt", b"Raw profile type exif\0" + _raw_profile(SHORT))),
    "iTXt": _png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _xmp(6, element=True))),
    "packed iTXt": _png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_xmp(6, element=False)))),
    "behind the pixels": encoded(scene(40, 20), "PNG")[:-12]
    + chunk(b"eXIf", SHORT[6:])
    + encoded(scene(40, 20), "PNG")[-12:],
    "jpeg xmp": encoded(scene(40, 20), "JPEG", xmp=_xmp(6, element=False)),
    "jpeg twice": encoded(scene(40, 20), "JPEG", exif=b"Exif\0\0" + SHORT),
    "webp": encoded(scene(40, 20), "WEBP", lossless=True, exif=SHORT),
    "webp xmp": encoded(scene(40, 20), "WEBP", lossless=True, xmp=_xmp(6, element=True)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_that_pillow_obeys_turns_the_image(spelling: str) -> None:
    """The pixels are those that Pillow's exif_transpose gives."""
    file, wanted = SPELLINGS[spelling], model(20, 40, interpolation="nearest")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    assert upright.size == (20, 40)
    ours = np.frombuffer(to_pixels(file, wanted, MOST), np.uint8).reshape(40, 20, 3)
    assert np.array_equal(ours, np.asarray(upright))


def test_exif_comes_before_xmp() -> None:
    """As in Pillow, also where EXIF says that the image is upright."""
    file = encoded(scene(40, 20), "JPEG", exif=SHORT.replace(b"\x06", b"\x01"), xmp=_xmp(6, element=True))
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(file))).size == (40, 20)
    pixels = np.frombuffer(to_pixels(file, model(40, 20), MOST), np.uint8).reshape(20, 40, 3)
    assert pixels[:, -1, 0].mean() > 200


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(3 * 2**20))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"v" * (3 * 2**20))),
        chunk(b"tEXt", b"Comment\0" + b"v" * (3 * 2**20)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"v" * (3 * 2**20))),
        chunk(b"tEXt", b"k\0v") * 2000,
        chunk(b"sRGB", b""),
        chunk(b"acTL", b"\xff"),
        chunk(b"pHYs", b""),
        chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    ],
    ids=["profile", "packed text", "text", "xmp", "many texts", "no intent", "no frames", "no size", "exif"],
)
def test_metadata_never_costs_a_png(extra: bytes) -> None:
    """Large, damaged or strange: the pixels are there."""
    assert to_pixels(_png_with(extra), model(), MOST) == to_pixels(encoded(scene(40, 20), "PNG"), model(), MOST)


def test_a_profile_of_hundreds_of_megabytes_is_not_inflated() -> None:
    """It takes no part in the decoding."""
    assert set(to_pixels(png_with_profile(2**20), model(), MOST)) == {0}


@pytest.mark.parametrize("marks", [500, 5000])
def test_a_film_behind_a_progressive_jpeg_counts_no_scans(marks: int) -> None:
    """A phone appends it, and any bytes may occur in it."""
    data = encoded(scene(), "JPEG", progressive=True)
    assert to_pixels(data + b"\xff\xda\0\x08film" * marks, model(), MOST) == to_pixels(data, model(), MOST)
