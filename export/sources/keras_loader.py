"""Reads an image as Keras's own loaders do, for the comparison with the owner's pipeline (--images)."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export.artefact.description import Resize
from export.convert.original import Floats, ImageInput
from export.images import folder
from export.images.resize import resized

_COLOURS = {1: "grayscale", 3: "rgb", 4: "rgba"}


def loader_for(given: ImageInput) -> Callable[[Path, Resize], Floats]:
    """A function that gives float32 [height,width,channels] of 0..255."""
    return lambda file, resize: load(file, resize, given)


def load(file: Path, resize: Resize, given: ImageInput) -> Floats:
    """By image_dataset_from_directory's functions, by load_img, or, for a crop of torchvision's, by our own."""
    if resize.mode == "crop":
        return resized(folder.read(file, given.channels), given.height, given.width, resize).astype(np.float32)
    if resize.antialias and resize.mode != "pad_to_aspect_ratio":
        return _by_load_img(file, resize, given)
    image = tf.io.decode_image(tf.io.read_file(str(file)), channels=given.channels, expand_animations=False)
    size = (given.height, given.width)
    match resize.mode:
        case "crop_to_aspect_ratio":
            made = keras.preprocessing.image.smart_resize(image, size, resize.interpolation)
        case "pad_to_aspect_ratio":
            made = tf.image.resize_with_pad(image, *size, method=resize.interpolation, antialias=resize.antialias)
        case _:
            made = tf.image.resize(image, size, method=resize.interpolation)
    return np.asarray(made, np.float32)


def _by_load_img(file: Path, resize: Resize, given: ImageInput) -> Floats:
    image = keras.utils.load_img(
        file,
        color_mode=_COLOURS[given.channels],
        target_size=(given.height, given.width),
        interpolation=resize.interpolation,
        keep_aspect_ratio=resize.mode == "crop_to_aspect_ratio",
    )
    return np.asarray(keras.utils.img_to_array(image, data_format="channels_last"), np.float32)
