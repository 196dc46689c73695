"""The images that are sent: scikit-image's, as a small JPEG and as a phone's. Always the same bytes."""

import io
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Sizes of the files, in bytes: images of 500 x 375 as the web has them, and what a 12-megapixel camera writes.
_SMALL_BYTES = 73_000
_LARGE_BYTES = 3_200_000
_LARGE_PIXELS = 12_000_000

#: Amplitude of the sensor noise in the large one, of 255. An enlarged image has no detail of its own, and its
#: file would be far smaller than a camera's at the same quality.
_NOISE = 6.0

_QUALITY = 90

#: Ends the names of those in the test set that have 12 megapixels.
LARGE = "-12mp"

#: Images of the package scikit-image; no image is in both.
_TEST = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg")
_CALIBRATION = ("motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "ihc.png", "gravel.png", "grass.png",
                "brick.png", "coins.png", "moon.png", "hubble_deep_field.jpg")  # fmt: skip


@cache
def small() -> bytes:
    """A JPEG of 500 x 375, 65 to 82 KB."""
    image = Image.fromarray(_samples().coffee()).crop((50, 12, 550, 387))
    return _of_size(image, _SMALL_BYTES)


@cache
def thumbnail() -> bytes:
    """A JPEG of 160 x 120, 8 KB: as cheap to decode as an image gets, so that most of the work is the pipeline's."""
    return _jpeg(Image.open(io.BytesIO(small())).resize((160, 120), Image.Resampling.LANCZOS), _QUALITY)


@cache
def large() -> bytes:
    """A JPEG of 4000 x 3000, about 3.2 MB."""
    image = Image.fromarray(_samples().coffee()).crop((33, 0, 566, 400))
    return _of_size(_enlarged(image, (4000, 3000)), _LARGE_BYTES)


@cache
def test_set() -> dict[str, bytes]:
    """JPEGs of images by name, for fidelity and agreement: whole, enlarged to 12 megapixels, and crops."""
    # Two at a time: each takes some hundred MB while it is enlarged.
    with ThreadPoolExecutor(2) as pool:
        return {name: data for variants in pool.map(_variants, _TEST) for name, data in variants}


def write_calibration(folder: Path) -> int:
    """Crops of the other images, for quantisation; returns how many. None of them is in the test set."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for source in _CALIBRATION:
        for name, image in _crops(source):
            (folder / f"{name}.jpg").write_bytes(_jpeg(image, _QUALITY))
            count += 1
    return count


def _variants(source: str) -> list[tuple[str, bytes]]:
    made = [(source, _jpeg(_open(source), _QUALITY))]
    for number, (name, crop) in enumerate(_crops(source)):
        made.append((name, _jpeg(crop, _QUALITY)))
        if number % 5 == 0:
            scale = math.sqrt(_LARGE_PIXELS / (crop.width * crop.height))
            size = (int(crop.width * scale), int(crop.height * scale))
            made.append((name + LARGE, _jpeg(_enlarged(crop, size), _QUALITY)))
    return made


def _crops(source: str) -> Iterator[tuple[str, Image.Image]]:
    """Windows of two thirds and of half of the sides, spread evenly."""
    image = _open(source)
    for part, steps in ((1 / 1.5, 4), (1 / 2, 4)):
        width, height = int(image.width * part), int(image.height * part)
        for row, column in itertools.product(range(steps), repeat=2):
            left = (image.width - width) * column // (steps - 1)
            top = (image.height - height) * row // (steps - 1)
            yield f"{source}-{width}-{row}{column}", image.crop((left, top, left + width, top + height))


def _samples() -> ModuleType:
    """The images of scikit-image, which is imported only for them: a machine that measures its GPU may not have it."""
    import skimage.data

    module: ModuleType = skimage.data
    return module


def _open(source: str) -> Image.Image:
    # Read from the package's folder: skimage.data would look for some of them in a cache, or download them.
    (folder,) = _samples().__path__
    return Image.open(Path(folder) / source).convert("RGB")


BY_NAME: dict[str, Callable[[], bytes]] = {"thumbnail": thumbnail, "small": small, "large": large}


def _enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As a camera with more pixels might have taken it: the grain is as fine as its pixels."""
    width, height = size
    pixels = np.array(image.resize(size, Image.Resampling.LANCZOS), np.float32)
    pixels += _grain()[: width * height].reshape(height, width, 1)
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


@cache
def _grain() -> NDArray[np.float32]:
    """Noise for each pixel: drawing it takes longer than all else."""
    return np.random.default_rng(1).standard_normal(_LARGE_PIXELS, np.float32) * np.float32(_NOISE)


def _of_size(image: Image.Image, wanted: int) -> bytes:
    """The JPEG of the quality (4:2:0) that comes closest to `wanted` bytes."""
    low, high = 30, 97
    while high - low > 1:
        quality = (low + high) // 2
        low, high = (quality, high) if len(_jpeg(image, quality)) < wanted else (low, quality)
    return min((_jpeg(image, quality) for quality in (low, high)), key=lambda data: abs(len(data) - wanted))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()
