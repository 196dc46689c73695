"""A folder of images as the network will see them: brought to its input in the artefact's own way.

The geometry is the one by which the service prepares a request.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from export.artefact.description import Resize
from export.errors import ImagesUnusable

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))

#: Half of them calibrate, half judge. Fewer than 8 of either say little.
MIN_IMAGES = 16

#: More change neither the ranges nor the verdict by much, and all are held in memory (38 MB of 224 x 224).
MAX_IMAGES = 256

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """uint8 [N,height,width,3] each; no image is in both. `skipped` files could not be read."""

    calibration: Pixels
    held_out: Pixels
    skipped: int


def find(folder: Path) -> list[Path]:
    """The folder's images, those in folders within it included; raises ImagesUnusable where they are too few."""
    if not folder.is_dir():
        raise ImagesUnusable(f"{folder} is not a folder: pass --calibrate FOLDER with {MIN_IMAGES} images or more")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) < MIN_IMAGES:
        raise _too_few(folder, len(files), "")
    return files


def read(
    folder: Path, *, height: int, width: int, resize: Resize, on_progress: Callable[[int, int], None] = lambda *_: None
) -> CalibrationImages:
    """Every other image is held out; `on_progress` is told how many of how many were read. Raises ImagesUnusable."""
    files = _spread(find(folder))
    different: dict[bytes, Pixels] = {}
    skipped = 0
    for count, file in enumerate(files, 1):
        try:
            pixels = _load(file, height, width, resize)
        # Damaged files raise what the decoder of their format likes.
        except Exception:  # noqa: BLE001
            skipped += 1
        else:
            # The same image under two names must not calibrate and judge.
            different[hashlib.sha256(pixels.tobytes()).digest()] = pixels
        on_progress(count, len(files))
    if len(different) < MIN_IMAGES:
        raise _too_few(folder, len(different), f" that can be read and differ ({len(files)} files)")
    images = np.stack(list(different.values()))
    return CalibrationImages(images[::2], images[1::2], skipped)


def _too_few(folder: Path, count: int, which: str) -> ImagesUnusable:
    return ImagesUnusable(
        f"{folder} holds {count} images{which}, at least {MIN_IMAGES} are needed, half of them to check the result;"
        " 100 to 250 of the kind that will be classified are best"
    )


def _spread(files: list[Path]) -> list[Path]:
    """At most MAX_IMAGES of them, evenly over the list: folders often hold one class each."""
    if len(files) <= MAX_IMAGES:
        return files
    return [files[index * len(files) // MAX_IMAGES] for index in range(MAX_IMAGES)]


def _load(file: Path, height: int, width: int, resize: Resize) -> Pixels:
    with Image.open(file) as stored:
        image = _rgb(ImageOps.exif_transpose(stored))
    filters = Image.Resampling[resize.interpolation.upper()]
    scaled = image.resize((width, height), filters, box=box(*image.size, height, width, resize))
    return np.asarray(scaled)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255)), layer).convert("RGB")
    return image.convert("RGB")


def box(
    image_width: int, image_height: int, height: int, width: int, resize: Resize
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the part of a image that is scaled to width x height."""
    if resize.mode == "squash":
        return (0, 0, image_width, image_height)
    short = min(image_width, image_height)
    least = max(-(-width * short // image_width), -(-height * short // image_height))
    shorter_side = max(resize.shorter_side or 0, least)
    scaled_width = max(width, shorter_side * image_width // short)
    scaled_height = max(height, shorter_side * image_height // short)
    left = round((scaled_width - width) / 2) * image_width / scaled_width
    top = round((scaled_height - height) / 2) * image_height / scaled_height
    right = left + width * image_width / scaled_width
    bottom = top + height * image_height / scaled_height
    return (left, top, min(right, image_width), min(bottom, image_height))
