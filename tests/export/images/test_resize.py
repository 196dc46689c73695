"""The artefact's ways to resize, held against the loaders that they are named for, on real images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import skimage
import tensorflow as tf
from PIL import Image

from export.artefact.description import Resize
from export.convert.original import ImageInput
from export.images import folder
from export.images.resize import LOADERS, padding, resized
from export.sources import keras_loader
from ingest.images import formats
from tests.support.images import encoded, scene, stored_turned
from tests.support.models import tiny_keras

pytestmark = tiny_keras.quiet_keras

HEIGHT, WIDTH = 96, 128

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide, tall, and square ones, as PNG in a subfolder: a JPEG is decoded by different libraries."""
    made = tmp_path_factory.mktemp("images") / "all"
    made.mkdir()
    for name in ("chelsea", "coffee", "astronaut", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).save(made / f"{name}.png")
    Image.fromarray(skimage.data.coffee().transpose(1, 0, 2)).save(made / "tall.png")
    return made


def ours(file: Path, resize: Resize) -> Floats:
    return resized(folder.read(file), HEIGHT, WIDTH, resize).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}])
def test_image_dataset_from_directory(images: Path, options: dict[str, bool]) -> None:
    """Within the half step of 255 that a whole number costs."""
    dataset = keras.utils.image_dataset_from_directory(
        images.parent,
        labels=None,
        image_size=(HEIGHT, WIDTH),
        batch_size=None,
        shuffle=False,
        verbose=False,
        **options,
    )
    mode = next(iter(options), "squash")
    resize = Resize(mode, None, "bilinear", antialias=False)  # type: ignore[arg-type]  # the options are the modes
    for file, image in zip(sorted(images.iterdir()), dataset, strict=True):
        assert np.abs(ours(file, resize) - np.asarray(image)).max() <= 0.501
        assert np.abs(ours(file, replace(resize, rounded=False)) - np.asarray(image)).max() <= 0.001


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", [{"quality": 80}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_a_jpeg_is_decoded_as_by_tensorflow(tmp_path: Path, form: dict[str, Any], channels: int) -> None:
    """Pixel for pixel: with the fast DCT, and grey from the luma alone."""
    file = tmp_path / "image.jpg"
    Image.fromarray(skimage.data.coffee()).save(file, **form)
    theirs = np.asarray(tf.io.decode_image(file.read_bytes(), channels=channels, expand_animations=False))
    mine = np.asarray(folder.read(file, channels, fast_dct=True)).reshape(theirs.shape)
    np.testing.assert_array_equal(mine, theirs)
    assert np.abs(np.asarray(folder.read(file, channels)).reshape(theirs.shape).astype(int) - theirs).max() > 2


def test_load_img_and_flow_from_directory(images: Path) -> None:
    """Both are Pillow's nearest by default, pixel for pixel."""
    for file in images.iterdir():
        theirs = keras.utils.img_to_array(keras.utils.load_img(file, target_size=(HEIGHT, WIDTH)))
        np.testing.assert_array_equal(ours(file, LOADERS["load_img"]), theirs)
    flow = keras.src.legacy.preprocessing.image.ImageDataGenerator().flow_from_directory(
        images.parent, target_size=(HEIGHT, WIDTH), class_mode=None, shuffle=False, batch_size=8
    )
    for name, theirs in zip(flow.filenames, next(flow), strict=True):
        np.testing.assert_array_equal(ours(images.parent / name, LOADERS["flow_from_directory"]), theirs)


def test_the_loaders_of_the_comparison_are_keras_own(images: Path) -> None:
    """What --images prints beside the artefact's accuracy is Keras's own pipeline."""
    given = ImageInput(HEIGHT, WIDTH, 3, "nhwc", "float32")
    file = images / "coffee.png"
    for resize in (
        *LOADERS.values(),
        Resize("crop_to_aspect_ratio", None, "bilinear", antialias=False),
        Resize("pad_to_aspect_ratio", None, "bilinear", antialias=False),
    ):
        theirs = keras_loader.load(file, resize, given)
        # load_img rounds its crop to other pixels than ImageOps.fit does.
        allowed = 0.51 if resize.mode != "crop_to_aspect_ratio" or not resize.antialias else 40
        assert np.abs(theirs - ours(file, resize)).max() <= allowed


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (97, 1000), (640, 480), (33, 31), (128, 96)])
def test_the_bars_are_tensorflows(size: tuple[int, int]) -> None:
    """An image of ones shows where they end."""
    width, height = size
    theirs = np.asarray(tf.image.resize_with_pad(tf.ones((height, width, 1)), HEIGHT, WIDTH))[..., 0] > 0
    left, top, inner_width, inner_height = padding(width, height, HEIGHT, WIDTH)
    mine = np.zeros((HEIGHT, WIDTH), bool)
    mine[top : top + inner_height, left : left + inner_width] = True
    np.testing.assert_array_equal(mine, theirs)


def test_grey_images_and_transparent_ones_keep_their_channels(tmp_path: Path) -> None:
    """One channel is luma, four keep their alpha, three lie on white."""
    image = Image.new("RGBA", (20, 10), (255, 0, 0, 128))
    image.save(tmp_path / "red.png")
    for channels, expected in ((1, [203 - 38]), (3, [255, 127, 127]), (4, [255, 0, 0, 128])):
        pixels = resized(folder.read(tmp_path / "red.png", channels), 4, 4, Resize())
        assert pixels.shape == (4, 4, channels)
        np.testing.assert_allclose(pixels[0, 0], expected, atol=1)


def test_the_files_that_count_are_those_that_the_service_takes() -> None:
    """One list of suffixes, kept in two packages that must not import each other."""
    assert formats.SUFFIXES == folder.SUFFIXES


@pytest.mark.parametrize("image_format", formats.FORMATS, ids=lambda one: one.name)
def test_export_reads_every_format_that_the_service_takes(image_format: formats.ImageFormat, tmp_path: Path) -> None:
    """By each of its suffixes, and upright if it has an orientation."""
    image = scene()
    if image_format.name in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        data = stored_turned(image, 6, image_format.name)
    else:
        data = encoded(image, image_format.name)
    for suffix in image_format.suffixes:
        (tmp_path / f"x{suffix}").write_bytes(data)
    found = folder.files_in(tmp_path)
    assert len(found) == len(image_format.suffixes)
    for file in found:
        pixels = np.asarray(folder.read(file), np.int16)
        assert pixels.shape == (image.height, image.width, 3)
        assert np.abs(pixels - np.asarray(image, np.int16)).mean() < 8
