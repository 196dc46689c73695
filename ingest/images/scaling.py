"""Scales a part of a Pillow image of any mode, without a second copy of a large image.

A large image is converted and scaled along its rows in strips, then all of them together along the columns. Both steps
round to 8 bits. Pillow scales some images in the other order, which changes few pixels by 1 of 255.
export/images/resize.py has the reference for all ways of scaling. A test compares the two.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from ingest.images.geometry import Box, CropBox
from stream.model import Resize

Floats = npt.NDArray[np.float32]

#: Brings a strip of an image to another mode.
Convert = Callable[[Image.Image], Image.Image]

#: An image up to this size is converted as a whole. Pixels of one strip of a larger one.
_MAX_WHOLE_PIXELS: Final = 4 * 2**20
_STRIP_PIXELS: Final = 2**20

_RESAMPLING: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def scale(image: Image.Image, crop: CropBox, resize: Resize, convert: Convert | None, mode: str) -> Image.Image:
    """The part as an image of crop.width x crop.height, oriented as it is stored.

    `convert` brings a strip of the image to `mode`, one of L, RGB, RGBA and CMYK. None if the image has that mode.
    """
    if resize.interpolation == "bilinear" and not resize.antialias:
        # Rounded half to even, like cv2.resize.
        pixels = np.rint(_between_neighbours(image, crop, convert)).astype(np.uint8)
        return Image.frombytes(mode, (crop.width, crop.height), pixels.tobytes())
    resampling = _RESAMPLING[resize.interpolation]
    size, box = (crop.width, crop.height), within(crop, image.width, image.height)
    if resampling == Image.Resampling.NEAREST:
        picked = image.resize(size, resampling, box=box)
        return convert(picked) if convert else picked
    if convert is None or image.width * image.height <= _MAX_WHOLE_PIXELS:
        return (convert(image) if convert else image).resize(size, resampling, box=box)
    # Pillow weights colours by their alpha.
    weighted = "RGBa" if mode == "RGBA" else mode
    left, top, right, bottom = box
    narrow = Image.new(weighted, (crop.width, image.height))
    for first, strip in _strips(image):
        converted = convert(strip)
        if weighted != mode:
            converted = converted.convert(weighted)
        part = converted.resize((crop.width, strip.height), resampling, box=(left, 0, right, strip.height))
        narrow.paste(part, (0, first))
    scaled = narrow.resize(size, resampling, box=(0, top, crop.width, bottom))
    return scaled if weighted == mode else scaled.convert(mode)


def within(crop: CropBox, width: int, height: int) -> Box:
    """The box without what rounding put beyond the edges, which no scaler accepts."""
    left, top, right, bottom = crop.box
    return (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in pieces, each with the number of its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for first in range(0, image.height, rows):
        yield first, image.crop((0, first, image.width, min(first + rows, image.height)))


def scale_unrounded(image: Image.Image, crop: CropBox, resize: Resize, convert: Convert | None) -> Floats:
    """The part as float32 [crop.height, crop.width, channels] of 0..255, bilinear, oriented as it is stored."""
    if not resize.antialias:
        return _between_neighbours(image, crop, convert)
    left, top, right, bottom = within(crop, image.width, image.height)
    strips = [
        [
            _resized(band, (crop.width, strip.height), (left, 0, right, strip.height))
            for band in (convert(strip) if convert else strip).split()
        ]
        for _, strip in _strips(image)
    ]
    bands = [Image.fromarray(np.concatenate(parts)) for parts in zip(*strips, strict=True)]
    size, box = (crop.width, crop.height), (0.0, top, float(crop.width), bottom)
    return np.stack([_resized(band, size, box) for band in bands], axis=-1)


def _resized(band: Image.Image, size: tuple[int, int], box: Box) -> Floats:
    """One channel in float32, antialiased."""
    return np.asarray(band.convert("F").resize(size, Image.Resampling.BILINEAR, box=box))


def _between_neighbours(image: Image.Image, crop: CropBox, convert: Convert | None) -> Floats:
    """Bilinear without antialiasing: between the four pixels around the centre of each pixel of the input.

    Computed in float32, like tf.image.resize and cv2.INTER_LINEAR
    (tensorflow/core/kernels/image/resize_bilinear_op.cc with half_pixel_centers).
    """
    left, top, right, bottom = (round(edge) for edge in crop.box)
    columns = _neighbours(left, max(1, right - left), crop.width)
    upper, lower, share = _neighbours(top, max(1, bottom - top), crop.height)
    above, below = (_rows(image, rows, columns, convert) for rows in (upper, lower))
    return np.asarray(above + (below - above) * share[:, np.newaxis, np.newaxis], np.float32)


_Neighbours = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]


def _neighbours(start: int, size: int, target: int) -> _Neighbours:
    """For each pixel of the target, the two pixels around its centre, and the share of the second one."""
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(size / target) - np.float32(0.5)
    first = np.floor(centre)
    low = np.maximum(first, 0).astype(np.intp)
    high = np.minimum(first + 1, size - 1).astype(np.intp)
    return start + low, start + high, centre - first


def _rows(image: Image.Image, rows: npt.NDArray[np.intp], columns: _Neighbours, convert: Convert | None) -> Floats:
    """float32 [rows, columns, channels]: these rows of the image, scaled along the row."""
    first, second, share = columns
    scaled = []
    for number in rows:
        row = image.crop((0, int(number), image.width, int(number) + 1))
        pixels = np.asarray(convert(row) if convert else row).reshape(image.width, -1)
        near, far = pixels[first].astype(np.float32), pixels[second].astype(np.float32)
        scaled.append(near + (far - near) * share[:, np.newaxis])
    return np.stack(scaled)
