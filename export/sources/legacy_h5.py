"""Puts the description of a model in an .h5 of Keras 2 into words that Keras 3 reads.

1. The first layer of a Sequential carries `batch_input_shape` itself. Keras 3 takes that for a shape
   without the batch's dimension and counts it twice; an InputLayer in front says the same rightly.
2. A depthwise convolution has `groups`, always 1, which Keras 3's constructor doesn't know.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeGuard

import h5py

Config = dict[str, object]


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """The file itself, or for an .h5 of Keras 2 a copy for as long as the block runs.

    Raises OSError where it is no HDF5 file, ValueError where its description is no JSON.
    """
    if path.suffix == ".keras" or not (description := _old_description(path)):
        yield path
        return
    with TemporaryDirectory(prefix="sluice-keras-2-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(modernised(json.loads(description)))
        yield copy


def _old_description(path: Path) -> str | bytes | None:
    with h5py.File(path, "r") as file:
        version = file.attrs.get("keras_version", "1")
        version = version.decode() if isinstance(version, bytes) else str(version)
        description: str | bytes | None = file.attrs.get("model_config")
    return None if version.startswith("3") else description


def modernised(value: object) -> object:
    """The description with both differences mended, wherever they are in it."""
    if isinstance(value, list):
        return [modernised(item) for item in value]
    if not isinstance(value, dict):
        return value
    config = {key: modernised(item) for key, item in value.items()}
    inner = config.get("config")
    if config.get("class_name") == "DepthwiseConv2D" and _is_config(inner) and inner.get("groups") == 1:
        del inner["groups"]
    if config.get("class_name") == "Sequential":
        layers = inner.get("layers") if _is_config(inner) else inner
        if isinstance(layers, list):
            _give_input_layer(layers)
            config["config"] = inner if _is_config(inner) else {"name": "sequential", "layers": layers}
    return config


def _give_input_layer(layers: list[Config]) -> None:
    first = layers[0] if layers else {}
    options = first.get("config")
    if first.get("class_name") == "InputLayer" or not _is_config(options):
        return
    if (shape := options.pop("batch_input_shape", None)) is not None:
        config: Config = {"batch_input_shape": shape, "dtype": "float32", "name": "input"}
        layers.insert(0, {"class_name": "InputLayer", "config": config})


def _is_config(value: object) -> TypeGuard[Config]:
    return isinstance(value, dict)
