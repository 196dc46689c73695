"""A model of Keras 3 or tf-keras, as its owner calls it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from export.artefact.description import Assumption
from export.convert import tensorflow as conversion
from export.convert.original import BareGraph, Floats, ImageInput, Layout, Original, image_input
from export.convert.output_kind import Loss
from export.errors import ConversionFailed, NotAClassifier, UnreadableFile
from export.sources import keras_loader

#: A model of keras or of tf_keras: the two share no base class.
Model = Any

Size = tuple[int, int]


def original(
    model: Model,
    *,
    source: Mapping[str, str],
    layout: Layout | None = None,
    size: Size | None = None,
    loss: Loss | None = None,
    preprocess: Assumption | None = None,
) -> Original:
    """Raises NotAClassifier, BadArgument."""
    given = _input(model, layout, size)
    _unroll(model)
    return Original(
        input=given,
        predict=_predict(model),
        to_onnx=lambda opset: _to_onnx(model, given, opset),
        reference="its own predict",
        source=source,
        preprocess=preprocess,
        loss=loss,
        load_image=keras_loader.loader_for(given),
    )


def _unroll(model: Model) -> None:
    """Recurrent layers (LSTM, GRU) step by step: ONNX cannot express TensorFlow's loops over them."""
    for layer in model._flatten_layers(include_self=False):  # noqa: SLF001  # the layers within layers, too
        if getattr(layer, "unroll", None) is False:
            layer.unroll = True
            layer._could_use_gpu_kernel = False  # noqa: SLF001  # of Keras 2: that kernel has the loop inside


def _input(model: Model, layout: Layout | None, size: Size | None) -> ImageInput:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise UnreadableFile(
            "the file holds a model whose input is not known: call it once with an image before model.save(), or use"
            " model.export()"
        )
    if len(inputs) != 1:
        raise NotAClassifier(
            f"the model has {len(inputs)} inputs, and Sluice sends one image. Give the others fixed values:"
            " keras.Model(image, model([image, ...])).save(...)"
        )
    if len(outputs) != 1:
        raise NotAClassifier(
            f"the model has {len(outputs)} outputs, and one row of numbers is needed. Cut it:"
            " keras.Model(model.inputs[0], model.outputs[0]).save(...)"
        )
    shape, dtype = tuple(inputs[0].shape), tf.as_dtype(inputs[0].dtype).name
    # A float model computes in float32 (keras_archive), whatever its input layer says.
    element = "float32" if "float" in dtype else dtype
    return image_input(shape, element, layout=layout, size=size, usual="nhwc")


def _call(model: Model) -> Callable[[Any], Any]:
    """The model as a function of one tensor, whatever structure it wants its input and gives its output in."""
    given = getattr(model, "input", None)

    def call(x: Any) -> Any:  # noqa: ANN401
        return _only(
            model(tf.nest.pack_sequence_as(given, [x]) if isinstance(given, dict | list | tuple) else x, training=False)
        )

    return call


def _only(answer: Any) -> Any:  # noqa: ANN401
    """The one tensor in a structure; raises NotAClassifier if there are several."""
    flat = tf.nest.flatten(answer)
    if len(flat) != 1:
        raise NotAClassifier(f"the model gives {len(flat)} outputs, and one row of numbers is needed")
    return flat[0]


def _predict(model: Model) -> Callable[[npt.NDArray[np.generic]], Floats]:
    # XLA would compile the model again for each batch size.
    model.jit_compile = False
    given = getattr(model, "input", None)
    nested = isinstance(given, dict | list | tuple)

    def predict(images: npt.NDArray[np.generic]) -> Floats:
        try:
            answer = model.predict_on_batch(tf.nest.pack_sequence_as(given, [images]) if nested else images)
            return np.asarray(_only(answer), np.float32)
        except NotAClassifier:
            raise
        # Whatever a layer raises while it computes.
        except Exception as error:
            raise ConversionFailed(f"the model itself fails on images: {_first_line(error)}") from error

    return predict


def _to_onnx(model: Model, given: ImageInput, opset: int) -> BareGraph:
    try:
        concrete = conversion.traced(_call(model), given.shape, given.element)
    except NotAClassifier:
        raise
    except Exception as error:
        raise ConversionFailed(f"the model can't be traced: {_first_line(error)}") from error
    return conversion.to_onnx(concrete, opset=opset)


def _first_line(error: Exception) -> str:
    # Keras prints parts of its messages in bold.
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"
