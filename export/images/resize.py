"""Brings an image to the size of a network's input, in each of the artefact's ways.

This is the reference for ingest/images/geometry.py and resampling.py, which do the same for requests. Tests hold the
two against each other, and against Keras's own loaders.

In all formulas the image has W x H pixels and the network takes w x h.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.artefact.description import Resize

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: Pixels of 0..255, uint8 or float32.
Images = npt.NDArray[Any]

#: Left, top, right, bottom, in pixels of the image.
Box = tuple[float, float, float, float]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

#: A crop's shorter side without --shorter-side: ImageNet is tested on the centre of 256 pixels when 224 are cut out.
CROP_RATIO = 256 / 224

#: image_dataset_from_directory: neither antialiased nor rounded, and JPEG decoded with the fast DCT.
TENSORFLOW = Resize("squash", None, "bilinear", antialias=False, rounded=False, fast_dct=True)

#: What --like takes: the way in which each loader resizes, as far as it does not depend on the input size.
LOADERS: dict[str, Resize] = {
    "image_dataset_from_directory": TENSORFLOW,
    "tf.image.resize": TENSORFLOW,
    "cv2.resize": Resize("squash", None, "bilinear", antialias=False),
    "load_img": Resize("squash", None, "nearest"),
    "flow_from_directory": Resize("squash", None, "nearest"),
    "torchvision": Resize("crop", None, "bilinear"),
    "torchvision_tensor": Resize("crop", None, "bilinear", rounded=False),
    "teachable_machine": Resize("crop_to_aspect_ratio", None, "lanczos"),
    "pillow": Resize("squash", None, "bicubic"),
}


def resized(image: Image.Image, height: int, width: int, resize: Resize) -> Images:
    """[height,width,channels] of an image in mode L, RGB or RGBA: uint8, or float32 of 0..255 if it is not rounded."""
    if resize.mode != "pad_to_aspect_ratio":
        return _scaled(image, height, width, resize, box(*image.size, height, width, resize))
    left, top, inner_width, inner_height = padding(*image.size, height, width)
    inner = _scaled(image, inner_height, inner_width, resize, (0, 0, image.width, image.height))
    canvas = np.zeros((height, width, inner.shape[2]), inner.dtype)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def _scaled(image: Image.Image, height: int, width: int, resize: Resize, part: Box) -> Images:
    if resize.interpolation == "bilinear" and not resize.antialias:
        left, top, right, bottom = (round(edge) for edge in part)
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        floats = tensorflow_bilinear(pixels[top:bottom, left:right], height, width)
        return floats if not resize.rounded else np.rint(floats).astype(np.uint8)
    if not resize.rounded:
        bands = (band.convert("F").resize((width, height), _FILTERS["bilinear"], box=part) for band in image.split())
        return np.stack([np.asarray(band) for band in bands], axis=-1)
    scaled = image.resize((width, height), _FILTERS[resize.interpolation], box=part)
    return np.asarray(scaled).reshape(height, width, -1)


def box(image_width: int, image_height: int, height: int, width: int, resize: Resize) -> Box:
    """The part of an image that is scaled to width x height."""
    if resize.mode == "crop":
        return _centre(image_width, image_height, height, width, resize.shorter_side)
    if resize.mode == "crop_to_aspect_ratio":
        return _whole_pixels(image_width, image_height, height, width)
    return (0, 0, image_width, image_height)


def _centre(image_width: int, image_height: int, height: int, width: int, side: int | None) -> Box:
    """The shorter side is scaled to `side` pixels, the other rounded down, and the centre cut out, in one step."""
    short = min(image_width, image_height)
    least = max(-(-width * short // image_width), -(-height * short // image_height))
    shorter_side = max(side or 0, least)
    scaled_width = max(width, shorter_side * image_width // short)
    scaled_height = max(height, shorter_side * image_height // short)
    left = round((scaled_width - width) / 2) * image_width / scaled_width
    top = round((scaled_height - height) / 2) * image_height / scaled_height
    right = left + width * image_width / scaled_width
    bottom = top + height * image_height / scaled_height
    return (left, top, min(right, image_width), min(bottom, image_height))


def _whole_pixels(image_width: int, image_height: int, height: int, width: int) -> Box:
    """The largest centred part with the network's aspect ratio, in whole pixels, as Keras cuts it."""
    crop_height = max(1, min(image_height, int(image_width * height / width)))
    crop_width = max(1, min(image_width, int(image_height * width / height)))
    top, left = (image_height - crop_height) // 2, (image_width - crop_width) // 2
    return (left, top, left + crop_width, top + crop_height)


def padding(image_width: int, image_height: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the scaled image between the black bars, as tf.image.resize_with_pad has them."""
    ratio = np.maximum(np.float32(image_width) / np.float32(width), np.float32(image_height) / np.float32(height))
    inner_width, inner_height = np.float32(image_width) / ratio, np.float32(image_height) / ratio
    left, top = int((width - inner_width) / 2), int((height - inner_height) / 2)
    return max(0, left), max(0, top), max(1, int(inner_width)), max(1, int(inner_height))


def tensorflow_bilinear(pixels: Pixels, height: int, width: int) -> Floats:
    """uint8 [H,W,C] scaled as tf.image.resize and cv2.INTER_LINEAR do: four neighbours, no antialiasing.

    Source: tensorflow/core/kernels/image/resize_bilinear_op.cc with half_pixel_centers.
    """
    rows, next_rows, down = _neighbours(pixels.shape[0], height)
    columns, next_columns, right = _neighbours(pixels.shape[1], width)
    x = pixels.astype(np.float32)
    right = right[np.newaxis, :, np.newaxis]
    upper = x[rows][:, columns] + (x[rows][:, next_columns] - x[rows][:, columns]) * right
    lower = x[next_rows][:, columns] + (x[next_rows][:, next_columns] - x[next_rows][:, columns]) * right
    return np.asarray(upper + (lower - upper) * down[:, np.newaxis, np.newaxis], np.float32)


def as_input(images: Images, *, rounded: bool) -> Images:
    """Pixels 0..255 as the artefact takes them: uint8, or float32 in the steps of 1/256 that an entry has."""
    if rounded:
        return images if images.dtype == np.uint8 else np.rint(images).clip(0, 255).astype(np.uint8)
    return np.rint(images.astype(np.float32) * 256) / np.float32(256)


def _neighbours(size: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each pixel of the target the two of the source around its centre, and the share of the second."""
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * (
        np.float32(size) / np.float32(target)
    ) - np.float32(0.5)
    first = np.floor(centre)
    low = np.maximum(first, 0).astype(np.intp)
    high = np.minimum(first + 1, size - 1).astype(np.intp)
    return low, high, centre - first
