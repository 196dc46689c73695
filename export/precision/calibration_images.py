"""A folder of images as the network will see them: brought to its input in the artefact's own way.

The geometry is the one by which the service prepares a request.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.artefact.description import Resize
from export.errors import ImagesUnusable
from export.images import folder as image_folder
from export.images.resize import Images, resized

#: Half of them calibrate, half judge. Fewer than 8 of either say little.
MIN_IMAGES = 16

#: More change neither the ranges nor the verdict by much, and all are held in memory (38 MB of 224 x 224).
MAX_IMAGES = 256


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """[N,height,width,channels] of 0..255 each; no image is in both. `skipped` files could not be read."""

    calibration: Images
    held_out: Images
    skipped: int


def find(folder: Path) -> list[Path]:
    """The folder's images, those in folders within it included; raises ImagesUnusable where they are too few."""
    if not folder.is_dir():
        raise ImagesUnusable(f"{folder} is not a folder: pass --calibrate FOLDER with {MIN_IMAGES} images or more")
    files = image_folder.files_in(folder)
    if len(files) < MIN_IMAGES:
        raise _too_few(folder, len(files), "")
    return files


def read(
    folder: Path,
    *,
    height: int,
    width: int,
    resize: Resize,
    channels: int = 3,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> CalibrationImages:
    """Every other image is held out; `on_progress` gets how many of how many were read. Raises ImagesUnusable."""
    files = image_folder.spread(find(folder), MAX_IMAGES)
    different: dict[bytes, Images] = {}
    skipped = 0
    for count, file in enumerate(files, 1):
        try:
            pixels = resized(image_folder.read(file, channels, fast_dct=resize.fast_dct), height, width, resize)
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
