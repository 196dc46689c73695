"""A user's own model: a .keras file, or the .h5 of Keras 2 and 3."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import keras

from export.convert.normalisation import CHOICES
from export.errors import BadArgument, NotAClassifier, UnreadableFile
from export.sources import architectures, legacy_h5
from export.sources.network import Network

SUFFIXES = (".keras", ".h5", ".hdf5")


def load(path: Path, *, preprocess: str | None, size: tuple[int, int] | None) -> Network:
    """Raises UnreadableFile, NotAClassifier, BadArgument."""
    model = _model(path)
    height, width = _input_size(model, size)
    source = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return Network(model, height, width, preprocess or _normalisation(model), source)


def _model(path: Path) -> keras.Model:
    if path.suffix not in SUFFIXES:
        raise UnreadableFile(f"{path} is not a Keras model: its name must end in {', '.join(SUFFIXES)}")
    try:
        # Safe mode, because a Lambda layer is code that the file brings along.
        with legacy_h5.readable(path) as file:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
    # What a damaged or foreign file raises is up to zipfile, h5py, json and every layer's constructor.
    except Exception as error:
        raise UnreadableFile(f"{path} can't be read as a Keras model: {_why(error)}") from error
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise UnreadableFile(f"{path} holds no model whose inputs are known; save it after it was built")
    return model


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text or "unsafe" in text:
        return (
            "it carries Python code (a Lambda layer), which is never run;"
            " save the model again with a layer of Keras's own in its place"
        )
    if "No model config" in text:
        return "it holds weights only; name the architecture and pass the file as --weights FILE"
    return text[:500]


def _input_size(model: keras.Model, size: tuple[int, int] | None) -> tuple[int, int]:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NotAClassifier(
            f"the model is no image classifier: it has {len(model.inputs)} inputs and"
            f" {len(model.outputs)} outputs, where one of each is needed"
        )
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or shape[3] != 3:
        raise NotAClassifier(
            f"the model is no classifier of RGB images: its input is {_text(shape)}, where [N,height,width,3] is needed"
        )
    wanted = tuple(size or shape[1:3])
    if None in wanted:
        raise BadArgument(f"the model takes images of any size ({_text(shape)}): choose one with --size")
    if any(fixed not in (None, chosen) for fixed, chosen in zip(shape[1:3], wanted, strict=True)):
        raise BadArgument(f"--size {wanted[0]}x{wanted[1]} doesn't fit the model's input {_text(shape)}")
    return wanted


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ",".join("any" if n is None else str(n) for n in shape) + "]"


def _normalisation(model: keras.Model) -> str:
    """What the model itself tells of the pixels it wants; raises BadArgument where it tells nothing."""
    layers = list(_all_layers(model))
    if any(isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in layers):
        return "none"
    modes = {
        architecture.preprocess
        for part in (model, *layers)
        if (architecture := architectures.recognise(part.name)) is not None
    }
    if len(modes) == 1 and modes != {"none"} and not _has_free_operations(model):
        return modes.pop()
    raise BadArgument(
        "nothing in the model tells how its pixels were normalised when it was trained, and a wrong"
        f" guess gives wrong answers: pass --preprocess {'|'.join(CHOICES)} (unit: 0..1; tf: -1..1;"
        " none: 0..255, or the model does it inside; caffe, torch: as in keras.applications)"
    )


def _has_free_operations(model: keras.Model) -> bool:
    """Whether there is arithmetic between the layers, which may be a call of preprocess_input."""
    operations = getattr(model, "operations", model.layers)
    return any(not isinstance(operation, keras.layers.Layer) for operation in operations)


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def last_activation(model: keras.Model) -> str | None:
    """The name of the function that the model ends in; None where it is not one of Keras's own."""
    layer = model
    while isinstance(layer, keras.Model):
        layer = _last_layer(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)


def _last_layer(model: keras.Model) -> keras.layers.Layer | None:
    if isinstance(model, keras.Sequential):
        return model.layers[-1]
    outputs = model.get_config().get("output_layers", [])
    # ["name", 0, 0] for a single output, or a list of one of these.
    while outputs and isinstance(outputs[0], list | tuple):
        outputs = outputs[0]
    return model.get_layer(outputs[0]) if outputs else None
