"""A SavedModel folder, by its serving signature: of Keras 2, of Keras 3's model.export() or of plain TensorFlow.

A SavedModel is a program: loading it can run functions that it brings along. So its protocol buffer is read first. The
initialisation, which loading runs, and the serving signature may consist of plain arithmetic only; objects that loading
fills by functions of their own (tables, assets) are refused. The functions for training and for saving the model again
are never run, and may hold the few operations that these take. Anything else in the file is refused.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export.convert import tensorflow as conversion
from export.convert.original import BareGraph, Floats, Layout, Original, image_input
from export.errors import ConversionFailed, NotAClassifier, UnreadableFile, UnsafeFile
from export.sources import keras_loader, operations
from export.sources.model_file import digest

_SIGNATURES = ("serving_default", "serve")
_INIT = "__saved_model_init_op"

#: Kept alive as long as their functions: a signature holds its variables by weak references only.
_LOADED: list[Any] = []


def load(folder: Path, *, layout: Layout | None = None, size: tuple[int, int] | None = None) -> Original:
    """Raises UnreadableFile, UnsafeFile, NotAClassifier, BadArgument."""
    graph = _graph(folder)
    name = _signature_name(graph, folder)
    check(graph, name, folder)
    signature = _signature(folder, name)
    keyword, spec = _only_input(signature, folder)
    output = _only_output(signature)
    if spec.shape[0] is not None:
        raise NotAClassifier(
            f"{folder} takes {spec.shape[0]} images at a time, no more and no fewer: export it again with a signature"
            " of tf.TensorSpec((None, height, width, channels))"
        )
    given = image_input(tuple(spec.shape), spec.dtype.name, layout=layout, size=size, usual="nhwc")

    def call(x: tf.Tensor) -> tf.Tensor:
        return signature(**{keyword: x})[output]

    return Original(
        input=given,
        predict=_predict(call),
        to_onnx=lambda opset: _to_onnx(call, given.shape, given.element, opset),
        reference=f"the SavedModel's own signature {name}",
        source={"file": folder.name, "sha256": digest(folder), "signature": name},
        load_image=keras_loader.loader_for(given),
    )


def _to_onnx(
    call: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int | None, ...], element: str, opset: int
) -> BareGraph:
    try:
        concrete = conversion.traced(call, shape, element)
    # Whatever an operation raises for a shape that it was not made for.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConversionFailed(f"the SavedModel can't be called with {shape}: {reason}") from error
    return conversion.to_onnx(concrete, opset=opset)


def _graph(folder: Path) -> MetaGraphDef:
    try:
        saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    # protobuf's DecodeError has no public base that is the same in every version.
    except Exception as error:
        raise UnreadableFile(f"{folder} can't be read as a SavedModel: {error}") from error
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if len(graphs) != 1:
        raise UnreadableFile(f"{folder} holds no model for serving: its tags are {_tags(saved)}")
    return graphs[0]


def _tags(saved: SavedModel) -> str:
    return ", ".join(tag for graph in saved.meta_graphs for tag in graph.meta_info_def.tags) or "none"


def _signature_name(graph: MetaGraphDef, folder: Path) -> str:
    names = [name for name in graph.signature_def if name != _INIT and graph.signature_def[name].outputs]
    chosen = next((name for name in _SIGNATURES if name in names), names[0] if len(names) == 1 else None)
    if chosen is None:
        found = f"several ({', '.join(names)}) and none of them is serving_default" if names else "none"
        raise NotAClassifier(
            f"{folder} needs one serving signature, and has {found}: save it with model.export(folder), or with"
            " tf.saved_model.save(module, folder, signatures={'serving_default': function})"
        )
    return chosen


def check(graph: MetaGraphDef, signature: str, folder: Path) -> None:
    """Raises UnsafeFile unless everything that loading and serving run is plain arithmetic."""
    if not graph.object_graph_def.nodes:
        raise UnreadableFile(
            f"{folder} was written by TensorFlow 1: load it in TensorFlow 2 and save it again with tf.saved_model.save"
        )
    if graph.asset_file_def:
        raise UnsafeFile(f"{folder} is refused: it reads further files ({graph.asset_file_def[0].filename})")
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    for node in graph.object_graph_def.nodes:
        if node.WhichOneof("kind") in ("asset", "resource") or node.saveable_objects:
            raise UnsafeFile(f"{folder} is refused: it holds a table or another resource that loading would fill")
    for operation in _operations(_reachable(_run_names(graph, signature), functions), functions):
        _check_allowed(operation, operations.ALLOWED, folder)
    everything = [node.op for node in graph.graph_def.node if node.op not in functions]
    everything += list(_operations(functions, functions))
    for operation in everything:
        _check_allowed(operation, operations.ALLOWED | operations.NEVER_RUN, folder)


def _check_allowed(operation: str, allowed: Iterable[str], folder: Path) -> None:
    if operation in allowed:
        return
    if operation in operations.TRAINING:
        raise UnsafeFile(
            f"{folder} is refused: it holds the operation {operation}, which draws random numbers or changes the model"
            " at each image. model.export() of Keras 3 leaves layers such as RandomFlip at work. Pass the .keras file"
            " instead. If that has code of your own, export the model so that these layers do nothing:\n"
            "    image = keras.Input(model.input_shape[1:])\n"
            f'    keras.Model(image, model(image, training=False)).export("{folder.name}")'
        )
    raise UnsafeFile(
        f"{folder} is refused: it holds the operation {operation}, and only plain arithmetic is run. If it is part"
        " of your own preprocessing, export the model without it"
    )


def _run_names(graph: MetaGraphDef, signature: str) -> Iterator[str]:
    """The functions behind the signature and the initialisation, and what the main graph computes for them."""
    nodes = {node.name: node for node in graph.graph_def.node}
    open_names = [
        tensor.name
        for name in (signature, _INIT)
        if name in graph.signature_def
        for tensor in graph.signature_def[name].outputs.values()
    ]
    seen: set[str] = set()
    while open_names:
        name = open_names.pop().lstrip("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        open_names.extend(nodes[name].input)
        yield from _called(nodes[name])
    yield from _object_signatures(graph)


def _object_signatures(graph: MetaGraphDef) -> Iterator[str]:
    """The functions that TensorFlow 2 really calls for a signature: those of the object graph."""
    nodes = graph.object_graph_def.nodes
    for child in nodes[0].children:
        if child.local_name in ("signatures", "initializer"):
            for index in (child.node_id, *(inner.node_id for inner in nodes[child.node_id].children)):
                yield from nodes[index].function.concrete_functions
                yield nodes[index].bare_concrete_function.concrete_function_name


def _reachable(names: Iterable[str], functions: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name in found or not name:
            continue
        found.add(name)
        if name in functions:
            for node in functions[name].node_def:
                open_names.extend(_called(node))
    return found


def _called(node: Any) -> Iterator[str]:  # noqa: ANN401  # protobuf's messages have no types here
    yield node.op  # a function may be called by its name alone
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _operations(names: Iterable[str], functions: dict[str, Any]) -> Iterator[str]:
    """The operations of functions; a name that is no function is an operation itself."""
    for name in names:
        if name not in functions:
            yield name
            continue
        yield from (node.op for node in functions[name].node_def if node.op not in functions)


def _signature(folder: Path, name: str) -> Any:  # noqa: ANN401  # TensorFlow has no types
    try:
        loaded = tf.saved_model.load(str(folder))
    # Whatever a damaged folder makes TensorFlow raise.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UnreadableFile(f"{folder} can't be read as a SavedModel: {type(error).__name__}: {reason}") from error
    _LOADED.append(loaded)
    return loaded.signatures[name]


def _only_input(signature: Any, folder: Path) -> tuple[str, tf.TensorSpec]:  # noqa: ANN401
    _, inputs = signature.structured_input_signature
    if len(inputs) != 1:
        raise NotAClassifier(f"{folder} takes {len(inputs)} inputs ({', '.join(inputs)}), and one image is needed")
    ((keyword, spec),) = inputs.items()
    if spec.shape.rank is None:
        raise NotAClassifier(f"{folder} does not tell the shape of its input: export it with an input of a fixed shape")
    return keyword, spec


def _only_output(signature: Any) -> str:  # noqa: ANN401
    names = list(signature.structured_outputs)
    if len(names) != 1:
        raise NotAClassifier(f"the model gives {len(names)} outputs ({', '.join(names)}), and one is needed")
    return str(names[0])


def _predict(call: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[npt.NDArray[np.generic]], Floats]:
    def predict(images: npt.NDArray[np.generic]) -> Floats:
        try:
            return np.asarray(call(tf.constant(images)), np.float32)
        # Whatever an operation raises while it computes.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConversionFailed(f"the model itself fails on images: {type(error).__name__}: {reason}") from error

    return predict
