"""Kinds of images that a decoder can get wrong without an error: the pixels are those that every viewer shows."""

import struct
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ingest.errors import UnsupportedMediaType
from ingest.images.decode import to_pixels
from tests.support.images import chunk, encoded, model, png, scene

MOST = 50_000_000
PHOTOMETRIC, EXTRA_SAMPLES = 262, 338


def shown(data: bytes, width: int = 16, height: int = 12) -> npt.NDArray[np.uint8]:
    pixels = to_pixels(data, model(width, height, interpolation="nearest"), MOST)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def windows_bmp(alpha: int, masks: tuple[int, ...] = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)) -> bytes:
    """32 bits with the masks of a BITMAPV4HEADER, a quarter red, all pixels with this fourth byte."""
    pixels = bytes((0, 0, 255, alpha)) * 48 + bytes((255, 0, 0, alpha)) * 144
    start = 14 + 108
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 108, 16, 12, 1, 32, 3, len(pixels), 0, 0, 0, 0) + struct.pack("<4I", *masks)
    return head + info.ljust(108, b"\0") + pixels


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bmp_of_windows_is_opaque(alpha: int) -> None:
    """The clipboard and GDI write 0 into the fourth byte; such an image is not white."""
    image = shown(windows_bmp(alpha))
    assert image[-1, 0].tolist() == [255, 0, 0]
    assert image[0, 0].tolist() == [0, 0, 255]


def test_a_bmp_with_alpha_is_laid_on_white() -> None:
    """Where the fourth byte says something."""
    assert shown(windows_bmp(128))[0, 0].tolist() == pytest.approx([127, 127, 255], abs=1)


def deep_tiff(order: Literal["<", ">"], *, white_is_zero: bool, bits: int = 16) -> bytes:
    """A ramp of one deep sample per pixel, from black on the left to white."""
    ramp = np.tile(np.linspace(0, 2**bits - 1, 16), (12, 1)).astype(np.uint16)
    samples = (2**bits - 1 - ramp if white_is_zero else ramp).astype(order + "u2").tobytes()
    tags = [
        (256, 3, 16), (257, 3, 12), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8), (277, 3, 1), (278, 3, 12), (279, 4, len(samples)),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, 1)
        + (struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, kind, value in tags
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return mark + struct.pack(order + "I", 8 + len(samples)) + samples + directory


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_deep_tiff_whose_white_is_zero_is_no_negative(order: Literal["<", ">"], white_is_zero: bool) -> None:
    """X-rays and microscopes write such files, in both byte orders."""
    image = shown(deep_tiff(order, white_is_zero=white_is_zero))
    assert image[0, :, 0].tolist() == [round(255 * column / 15) for column in range(16)]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_tiff_whose_white_is_zero_is_no_negative(bits: int) -> None:
    """With few bits, too."""
    grey = scene(16, 12).convert("1" if bits == 1 else "L")
    white = encoded(grey, "TIFF", tiffinfo={PHOTOMETRIC: 0})
    assert np.array_equal(shown(white), shown(encoded(grey, "TIFF")))
    assert np.array_equal(shown(white)[..., 0], np.asarray(grey.convert("L")))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_whose_white_is_not_known_are_refused(mode: str) -> None:
    """Floats and 32-bit integers: a clear error, not a guess."""
    with pytest.raises(UnsupportedMediaType, match="8 or 16 bits"):
        shown(encoded(scene(16, 12).convert("L").convert(mode), "TIFF"))


def test_lab_is_refused() -> None:
    """Pillow cannot convert it."""
    image = Image.fromarray(np.zeros((12, 16, 3), np.uint8), "LAB")
    with pytest.raises(UnsupportedMediaType, match="Save it as RGB"):
        shown(encoded(image, "TIFF"))


def test_premultiplied_alpha_is_undone() -> None:
    """A TIFF can store colours that were multiplied by their alpha: half transparent red on white is pink."""
    image = Image.new("RGBA", (16, 12), (128, 0, 0, 128))
    data = encoded(image, "TIFF", tiffinfo={EXTRA_SAMPLES: 1})
    data = data.replace(struct.pack("<HHIH", EXTRA_SAMPLES, 3, 1, 2), struct.pack("<HHIH", EXTRA_SAMPLES, 3, 1, 1))
    assert shown(data)[0, 0].tolist() == pytest.approx([255, 127, 127], abs=1)


def test_grey_with_alpha_lies_on_white() -> None:
    """In 8 bits and in 16."""
    rows = b"".join(b"\0" + bytes((10, 0)) * 16 for _ in range(12))
    assert shown(png(16, 12, 8, 4, rows)).min() == 255
    deep = b"".join(b"\0" + bytes((10, 0, 0, 0)) * 16 for _ in range(12))
    assert shown(png(16, 12, 16, 4, deep)).min() == 255


def test_a_transparent_grey_of_16_bits_lies_on_white() -> None:
    """A PNG may name one of 65,536 greys transparent."""
    rows = b"".join(b"\0" + struct.pack(">8H", *[0x1234] * 8) + struct.pack(">8H", *[0x8000] * 8) for _ in range(12))
    image = shown(png(16, 12, 16, 0, rows, chunk(b"tRNS", b"\x12\x34")))
    assert (image[0, 0, 0], image[0, -1, 0]) == (255, 128)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_half_transparent_palettes_lie_on_white(kind: str) -> None:
    """A palette may have an alpha for each colour."""
    image = Image.new("P", (16, 12), 1)
    image.putpalette([0, 0, 0, 0, 0, 255])
    transparency: bytes | int = bytes((255, 128)) if kind == "PNG" else 1
    expected = [127, 127, 255] if kind == "PNG" else [255, 255, 255]
    assert shown(encoded(image, kind, transparency=transparency))[0, 0].tolist() == pytest.approx(expected, abs=1)


def test_a_large_cmyk_jpeg_is_converted_row_by_row_to_the_same() -> None:
    """However many strips it takes."""
    inks = scene(1500, 1100).convert("CMYK")
    pixels = np.frombuffer(
        to_pixels(encoded(inks, "JPEG", quality=95), model(1500, 1100, interpolation="nearest"), MOST), np.uint8
    )
    expected = np.asarray(inks.convert("RGB")).ravel()
    assert np.abs(pixels.astype(int) - expected).mean() < 2
