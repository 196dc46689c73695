"""Reads a user's images from a folder, as the service decodes them."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from export.errors import ImagesUnusable

#: The same list as in ingest/images/formats.py; a test compares the two.
SUFFIXES = frozenset(
    (".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif",
     ".tiff", ".webp")
)  # fmt: skip
_HEIC = frozenset((".heic", ".heif", ".hif"))

#: Pillow's names of what these suffixes stand for. It goes by the content of a file, and would start Ghostscript for a
#: .jpg that is PostScript.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF")

Item = TypeVar("Item")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Files with the index of their class; the classes are the names of the subfolders, sorted as Keras sorts them."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]


def files_in(folder: Path) -> list[Path]:
    """The folder's images, those in folders within it included."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, evenly over the list: folders often hold one class each."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def labelled(folder: Path) -> LabelledImages:
    """One subfolder per class, as Keras's loaders expect. Raises ImagesUnusable."""
    if not folder.is_dir():
        raise ImagesUnusable(f"{folder} is not a folder: pass --images FOLDER with one subfolder of images per class")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [(path, index) for index, name in enumerate(classes) for path in files_in(folder / name)]
    if len(classes) < 2 or not files:
        raise ImagesUnusable(
            f"{folder} holds {len(classes)} subfolders with {len(files)} images: --images needs one subfolder per"
            " class, named for it, with images in it"
        )
    return LabelledImages(folder, tuple(classes), tuple(files))


def read(file: Path, channels: int = 3, *, fast_dct: bool = False) -> Image.Image:
    """Upright, in mode L, RGB or RGBA. Raises ImagesUnusable, and what Pillow raises for a damaged file.

    With `fast_dct`, the pixels of a JPEG are those of TensorFlow.
    """
    is_heic = file.suffix.lower() in _HEIC
    if is_heic:
        _enable_heic(file)
    with Image.open(file, formats=("HEIF",) if is_heic else _FORMATS) as stored:
        decoded = _tensorflow_jpeg(file, stored, channels) if fast_dct and stored.format == "JPEG" else stored
        return _with_channels(ImageOps.exif_transpose(decoded), channels)


def _tensorflow_jpeg(file: Path, stored: Image.Image, channels: int) -> Image.Image:
    if stored.mode not in ("L", "RGB"):
        return stored
    pixels = simplejpeg.decode_jpeg(file.read_bytes(), "GRAY" if channels == 1 else "RGB", fastdct=True)
    decoded = Image.fromarray(pixels.squeeze())
    decoded.info["exif"] = stored.info.get("exif", b"")
    return decoded


def _enable_heic(file: Path) -> None:
    """Let Pillow read HEIC, which it turns itself. Raises ImagesUnusable without the package."""
    if not importlib.util.find_spec("pillow_heif"):
        raise ImagesUnusable(f"{file} needs the package pillow-heif: pip install pillow-heif")
    from pillow_heif import register_heif_opener  # not at the top: it is an extra

    register_heif_opener()


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if channels != 4 and image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255)), layer)
        # By way of RGB: Pillow's conversion from RGBA to L is the same, but 16-bit and palette images are not.
        image = image.convert("RGB")
    return image.convert(_MODES[channels])
