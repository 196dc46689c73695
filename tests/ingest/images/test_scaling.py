"""Each way of scaling gives the pixels of export's reference, which stands for the owner's notebook."""

import io
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.artefact import description
from export.images import folder
from export.images import resize as reference
from ingest.images import pillow, scaling
from ingest.images.decode import to_pixels
from ingest.images.geometry import UPRIGHT, crop_box
from stream.model import Interpolation, ModelDescription, Resize, ResizeMode
from tests.support.images import encoded, noisy_scene, stored_turned

MOST = 50_000_000

WAYS: list[tuple[Interpolation, bool]] = [
    ("nearest", True),
    ("bilinear", True),
    ("bicubic", True),
    ("lanczos", True),
    ("bilinear", False),
]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def wanted(
    mode: ResizeMode, way: tuple[Interpolation, bool], width: int, height: int, channels: int
) -> ModelDescription:
    resize = Resize(mode, way[0], 40 if mode == "crop" else None, antialias=way[1])
    return ModelDescription("tiny", "1", "0" * 64, height, width, resize, ("cat",), channels=channels)


def expected(image: Image.Image, model: ModelDescription) -> npt.NDArray[np.uint8]:
    resize = description.Resize(
        model.resize.mode, model.resize.shorter_side, model.resize.interpolation, antialias=model.resize.antialias
    )
    return reference.resized(image.convert(MODES[model.channels]), model.height, model.width, resize)


def shaped(pixels: bytes, model: ModelDescription) -> npt.NDArray[np.uint8]:
    return np.frombuffer(pixels, np.uint8).reshape(model.height, model.width, model.channels)


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(image.convert("L").point(lambda value: 255 - value))
    return image


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("mode", get_args(ResizeMode))
def test_a_lossless_image_is_scaled_exactly_as_by_export(
    mode: ResizeMode, way: tuple[Interpolation, bool], channels: int
) -> None:
    """On random sizes, larger and smaller than the input."""
    dice = random.Random(channels)
    for _ in range(6):
        width, height, into_width, into_height = (dice.randint(30, 150) for _ in range(4))
        image = noisy_scene(width, height)
        if channels == 4:
            image = with_alpha(image)
        model = wanted(mode, way, into_width, into_height, channels)
        ours = shaped(to_pixels(encoded(image, "PNG"), model, MOST), model)
        assert np.array_equal(ours, expected(image, model)), (width, height, into_width, into_height)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("mode", get_args(ResizeMode))
def test_a_jpeg_is_scaled_as_by_export(mode: ResizeMode, way: tuple[Interpolation, bool], channels: int) -> None:
    """Up to the rounding of the fast scaler, and of grey after colour."""
    data = encoded(noisy_scene(120, 90), "JPEG", quality=90)
    model = wanted(mode, way, 48, 40, channels)
    ours = shaped(to_pixels(data, model, MOST), model).astype(int)
    difference = np.abs(ours - expected(Image.open(io.BytesIO(data)), model))
    assert difference.max() <= 2
    assert difference.mean() < (0.5 if channels == 1 else 0.05)


UNROUNDED = [
    Resize("squash", "bilinear", antialias=False, rounded=False, fast_dct=True),
    Resize("crop_to_aspect_ratio", "bilinear", antialias=False, rounded=False, fast_dct=True),
    Resize("pad_to_aspect_ratio", "bilinear", antialias=False, rounded=False, fast_dct=True),
    Resize("crop", "bilinear", 40, rounded=False),
]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("resize", UNROUNDED, ids=lambda resize: resize.mode)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "turned JPEG"])
def test_fractions_are_those_of_export(tmp_path: Path, kind: str, resize: Resize, channels: int) -> None:
    """To a step of 1/256, since both compute in float32; grey from colours to a step of 255 and a half."""
    image = with_alpha(noisy_scene(131, 97)) if channels == 4 and kind == "PNG" else noisy_scene(131, 97)
    file = tmp_path / "image"
    file.write_bytes(stored_turned(image, 6) if kind == "turned JPEG" else encoded(image, kind))
    model = replace(wanted("squash", WAYS[1], 48, 40, channels), resize=resize)
    ours = np.frombuffer(to_pixels(file.read_bytes(), model, MOST), "<u2").reshape(40, 48, channels)
    read = folder.read(file, channels, fast_dct=resize.fast_dct)
    floats = reference.resized(read, 40, 48, description.Resize(**asdict(resize)))
    theirs = reference.as_input(floats, rounded=False)
    difference = np.abs(ours - theirs * 256)
    assert difference.max() <= (1 if channels != 1 or resize.fast_dct else 384)
    assert (ours % 256 > 0).mean() > 0.5


@pytest.mark.parametrize("image_mode", ["RGBA", "LA", "P", "CMYK", "I;16", "1"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_large_image_is_scaled_in_strips_to_the_same(
    monkeypatch: pytest.MonkeyPatch, image_mode: str, channels: int
) -> None:
    """Up to the rounding between the two steps."""
    image = noisy_scene(90, 70)
    if image_mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = (with_alpha(image) if "A" in image_mode else image).convert(image_mode)
    model = wanted("crop", ("bicubic", True), 32, 24, channels)
    crop, convert = crop_box(*image.size, UPRIGHT, model), pillow.converter(image, channels)

    def scaled() -> npt.NDArray[np.int16]:
        result = scaling.scale(image, crop, model.resize, convert, MODES[channels])
        return np.asarray(result).astype(np.int16)

    whole = scaled()
    monkeypatch.setattr(scaling, "_MAX_WHOLE_PIXELS", 0)
    monkeypatch.setattr(scaling, "_STRIP_PIXELS", 90 * 7)
    assert np.abs(scaled() - whole).max() <= 2
    assert np.abs(scaled() - whole).mean() < 0.1
