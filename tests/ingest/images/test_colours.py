"""Print colours, transparency, palettes, greys and 16 bits become the RGB that people see."""

import numpy as np
import pytest
from PIL import Image

from tests.ingest.images.test_decode import decoded, distance, expected
from tests.support.images import (
    encoded,
    png_of_16_bits,
    scene,
)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    """Print colours, inverted as Adobe stores them in JPEG, plain in TIFF."""
    inks = scene(640, 480).convert("CMYK")
    assert distance(decoded(encoded(inks, kind)), expected(inks)) < 2


def test_cmyk_with_black_ink_is_dark() -> None:
    """The black channel counts, in both directions."""
    inks = Image.new("CMYK", (160, 120), (0, 0, 0, 255))
    assert decoded(encoded(inks, "JPEG")).max() < 5
    assert decoded(encoded(Image.new("CMYK", (160, 120)), "JPEG")).min() > 250


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_white(kind: str) -> None:
    """What is transparent becomes white, what is half transparent half white."""
    image = Image.new("RGBA", (160, 120), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (80, 0, 160, 120))
    pixels = decoded(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert pixels[:, :24].min() == 255
    assert abs(pixels[:, 40:].mean() - 127) < 1.5


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_lies_on_white(kind: str) -> None:
    """Palette images name one of their colours transparent."""
    image = Image.new("P", (160, 120), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (80, 0, 160, 120))
    pixels = decoded(encoded(image, kind, transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, -1].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("mode", "value"), [("L", 7), ("RGB", (7, 8, 9)), ("1", 0)])
def test_a_transparent_colour_without_a_palette_lies_on_white(mode: str, value: int | tuple[int, int, int]) -> None:
    """PNG may name one grey or one colour transparent."""
    data = encoded(Image.new(mode, (40, 30), value), "PNG", transparency=value)
    assert decoded(data).min() == 255


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_grey_bits_and_palettes_become_rgb(mode: str) -> None:
    """Each mode that PNG knows keeps its image."""
    image = scene().convert("L").convert(mode)
    assert distance(decoded(encoded(image, "PNG")), expected(image)) < 0.6


def test_16_bits_are_scaled_not_clipped() -> None:
    """A grey ramp over 16 bits is a ramp over 8, from black to white; nothing is cut off at 255."""
    ramp = np.tile(np.linspace(0, 65535, 160), (120, 1)).astype(np.uint16)
    eight_bits = Image.fromarray((ramp >> 8).astype(np.uint8))
    assert distance(decoded(png_of_16_bits(ramp)), expected(eight_bits)) < 0.6
    assert distance(decoded(encoded(Image.fromarray(ramp), "TIFF")), expected(eight_bits)) < 0.6
    assert distance(decoded(png_of_16_bits(np.stack([ramp] * 3, axis=-1))), expected(eight_bits)) < 0.6
