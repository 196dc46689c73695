"""Kinds of files that Pillow takes for others: each gives the image that it holds, or a refusal that says why."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ingest.errors import DamagedImage, UnsupportedMediaType
from ingest.images.decode import to_pixels
from tests.support.image_files import jpeg_files
from tests.support.image_files.tiff_files import SHORT, Tags, planes, shorts, tiff
from tests.support.images import chunk, model, png, scene

WIDTH, HEIGHT = 64, 48
SCENE = np.asarray(scene(WIDTH, HEIGHT))
GREY = np.asarray(scene(WIDTH, HEIGHT).convert("L"))
DEEP = GREY.astype(np.uint16) * 257
SIGNED: Tags = {339: shorts(2)}
WHITE_IS_ZERO = 0
NOT_SAID = (SHORT, ())

Pixels = npt.NDArray[np.uint8]


def decoded(data: bytes) -> Pixels:
    """The image's own pixels, at its own size."""
    wanted = model(WIDTH, HEIGHT, interpolation="nearest")
    return np.frombuffer(to_pixels(data, wanted, 10**6), np.uint8).reshape(HEIGHT, WIDTH, 3)


def of_all_channels(grey: Pixels) -> Pixels:
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def packed(samples: Pixels, bits: int) -> bytes:
    """Rows of a PNG, each sample in so many bits."""
    each = (samples[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in each)


@pytest.mark.parametrize("transparent", [0, 1, 3])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_lies_on_white(bits: int, transparent: int) -> None:
    """Pillow spreads the samples over 0..255. The transparent one is named as it was before that."""
    samples = GREY >> np.uint8(8 - bits)
    data = png(WIDTH, HEIGHT, bits, 0, packed(samples, bits), chunk(b"tRNS", bytes((0, transparent))))
    most = 2**bits - 1
    spread = (samples.astype(int) * 255 // most).astype(np.uint8)
    on_white = np.where(samples == transparent & most, np.uint8(255), spread)
    assert np.array_equal(decoded(data), of_all_channels(on_white))


def test_a_transparent_colour_of_16_bits_is_refused() -> None:
    """Of each sample Pillow keeps 8 bits, so it would compare them with the wrong ones."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.full((HEIGHT, WIDTH, 3), 0x1234))
    with pytest.raises(UnsupportedMediaType, match="8 bits"):
        decoded(png(WIDTH, HEIGHT, 16, 2, rows, chunk(b"tRNS", b"\x12\x34" * 3)))


@pytest.mark.parametrize("colours", [0, 100])
def test_a_palette_that_lacks_colours_is_damaged(colours: int) -> None:
    """The pixels of the missing ones would be black."""
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    palette = chunk(b"PLTE", bytes(3 * colours)) if colours else b""
    with pytest.raises(DamagedImage, match="palette"):
        decoded(png(WIDTH, HEIGHT, 8, 3, rows, palette))


@pytest.mark.parametrize(
    ("samples", "tags", "reason"),
    [
        (GREY, SIGNED, "sign"),
        (DEEP, SIGNED | {258: shorts(16)}, "32 bits"),
        (SCENE, {258: shorts(8, 8, 8), 262: shorts(2), 277: shorts(3), 339: shorts(2, 2, 2)}, "rare kind"),
        (GREY, {262: NOT_SAID}, "black or white"),
        (DEEP, {258: shorts(16), 262: NOT_SAID}, "black or white"),
        (np.repeat(GREY[..., np.newaxis], 4, -1),
         {258: shorts(8, 8, 8, 8), 262: shorts(5), 277: shorts(4), 332: shorts(2)}, "inks"),
        (np.repeat(DEEP[np.newaxis], 3, 0).reshape(HEIGHT, -1, 3),
         {256: shorts(WIDTH), 258: shorts(16, 16, 16), 262: shorts(2), 277: shorts(3),
          **planes(np.repeat(DEEP[np.newaxis], 3, 0))}, "together"),
    ],
    ids=["signed", "signed 16 bits", "signed colours", "no meaning", "no meaning, 16 bits", "inks", "16-bit planes"],
)  # fmt: skip
def test_samples_of_another_meaning_are_refused(samples: npt.NDArray[Any], tags: Tags, reason: str) -> None:
    """Each of them would be another image, such as a negative."""
    with pytest.raises((UnsupportedMediaType, DamagedImage), match=reason):
        decoded(tiff(samples, tags))


@pytest.mark.parametrize(("order", "kind"), [("<", 3), (">", 3), ("<", 4), (">", 4), ("<", 8)])
def test_a_tag_may_have_any_type_of_whole_number(order: str, kind: int) -> None:
    """The image is no negative, whichever type says that 0 is white."""
    samples = (65535 - DEEP).astype(order + "u2")
    data = tiff(samples, {258: (4 if kind == 4 else 3, (16,)), 262: (kind, (WHITE_IS_ZERO,))}, order)
    assert np.array_equal(decoded(data), of_all_channels(GREY))


def test_a_colour_map_of_8_bits_is_read_as_one() -> None:
    """It should have 16 bits. Read as such, the image would be black."""
    colours = tuple(range(256)) + tuple(range(255, -1, -1)) + (7,) * 256
    found = decoded(tiff(GREY, {262: shorts(3), 320: shorts(*colours)}))
    assert np.array_equal(found, np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], axis=-1))


def test_a_fourth_sample_of_zeros_is_no_alpha() -> None:
    """The file does not say what it is. As alpha, it would make the image white."""
    samples = np.concatenate([SCENE, np.zeros((HEIGHT, WIDTH, 1), np.uint8)], axis=-1)
    tags = {258: shorts(8, 8, 8, 8), 262: shorts(2), 277: shorts(4)}
    assert np.array_equal(decoded(tiff(samples, tags)), SCENE)
    assert decoded(tiff(samples, tags | {338: shorts(2)})).min() == 255


def test_premultiplied_grey_is_undone() -> None:
    """Grey that was multiplied by its alpha lies on white."""
    samples = np.stack([GREY // 2, np.full_like(GREY, 128)], axis=-1)
    found = decoded(tiff(samples, {258: shorts(8, 8), 277: shorts(2), 338: shorts(1)}))
    assert np.abs(found.astype(int) - of_all_channels(GREY // 2 + 127)).max() < 4


def test_a_lossless_jpeg_is_read() -> None:
    """The fast decoder would write behind the end of its buffer. Pillow reads it."""
    wanted = model(8, 8)
    assert set(to_pixels(jpeg_files.lossless(400), wanted, 10**6)) == {128}
