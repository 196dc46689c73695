"""Another framework's ONNX classifier, as its owner runs it in ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import TensorProto

from export.artefact.description import Assumption, Precision
from export.convert import runtime
from export.convert.graph_view import captured
from export.convert.original import EXPORT_AGAIN, BareGraph, Floats, ImageInput, Layout, Original, image_input
from export.errors import ExportError, NotAClassifier, UnreadableFile, UnsafeFile
from export.sources.model_file import digest

_ELEMENTS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}
_QUANTISED = frozenset(("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul"))

#: Stored tensors need not be inputs as well since then; the artefact's own constants are none.
_IR_VERSION = 8


def load(path: Path, *, layout: Layout | None, size: tuple[int, int] | None) -> Original:
    """Raises UnreadableFile, UnsafeFile, NotAClassifier, BadArgument."""
    proto = _read(path)
    image, scores = _ends(proto)
    element = _ELEMENTS.get(image.type.tensor_type.elem_type, "another type")
    shape = _shape(image)
    given = image_input(shape, element, layout=layout, size=size)
    single = _single(shape[0], path)
    if single:
        _free_batch(proto)
    proto.ir_version = max(proto.ir_version, _IR_VERSION)
    pixels = Assumption("none", "known", "the model takes uint8 pixels and normalises them itself")
    return Original(
        input=given,
        predict=_predict(path, image.name, scores.name, single=single),
        to_onnx=lambda _: BareGraph(proto, image.name, scores.name),
        reference=f"{path.name} in ONNX Runtime",
        source=_source(proto, path),
        precision=_precision(proto, given),
        preprocess=pixels if element == "uint8" else None,
        single=single,
    )


def _read(path: Path) -> onnx.ModelProto:
    try:
        _check_external_data(onnx.load(path, load_external_data=False), path)
        proto = _completed(onnx.load(path))
        onnx.checker.check_model(proto)
        return onnx.inliner.inline_local_functions(proto)
    except ExportError:
        raise
    # What a damaged file raises is up to protobuf and to the checker.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UnreadableFile(f"{path} can't be read as an ONNX model: {reason}") from error


def _completed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With nodes in an order of computation and the shape of the output: ONNX Runtime needs neither in a file.

    Raises NotAClassifier.
    """
    if any(
        value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
        for value in proto.graph.input
    ):
        raise NotAClassifier(
            "the file does not tell the shape of its input: export it again with one, such as (N, 3, 224, 224)"
        )
    ordered = _in_order(proto.graph)
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
    if all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        return proto
    inferred = onnx.shape_inference.infer_shapes(proto).graph.output
    for value, found in zip(proto.graph.output, inferred, strict=True):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.CopyFrom(found)
    return proto


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Each node behind those that make what it takes; nodes of a circle last, in their own order."""
    missing = {name for node in graph.node for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    waiting, before = list(graph.node), 0
    while len(waiting) != before:
        before, later = len(waiting), []
        for node in waiting:
            if missing.isdisjoint((*node.input, *captured(node))):
                ordered.append(node)
                missing.difference_update(node.output)
            else:
                later.append(node)
        waiting = later
    return [*ordered, *waiting]


def _check_external_data(proto: onnx.ModelProto, path: Path) -> None:
    """Raises UnsafeFile if weights lie outside of the model's own folder."""
    folder = path.absolute().parent
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and (folder / entry.value).resolve().parent != folder.resolve():
                raise UnsafeFile(f"{path} is refused: its weights are in {entry.value}, outside of its own folder")


def _ends(proto: onnx.ModelProto) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    # Before IR version 4 every weight was listed as an input as well.
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs, outputs = [value for value in proto.graph.input if value.name not in weights], proto.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join(value.name for value in (*inputs, *outputs))
        raise NotAClassifier(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs ({names}), and one of each is needed:"
            " onnx.utils.extract_model cuts out the part between two of them"
        )
    if outputs[0].type.HasField("sequence_type"):
        raise NotAClassifier(
            "the model's output is a sequence, and a tensor with one row of numbers per image is needed (scikit-learn:"
            " convert with options={'zipmap': False})"
        )
    return inputs[0], outputs[0]


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """None for a dimension that is a name, unknown, or written as -1 or 0."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _single(batch: int | None, path: Path) -> bool:
    if batch not in (None, 1):
        raise NotAClassifier(f"{path} takes {batch} images at a time, no more and no fewer: {EXPORT_AGAIN}")
    return batch == 1


def _free_batch(proto: onnx.ModelProto) -> None:
    """Lets go of the one image at a time: in what is said of shapes, and in the targets of reshapes.

    Running the result with several images shows whether that was all.
    """
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    targets = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    constants = [tensor for tensor in proto.graph.initializer if tensor.name in targets]
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            constants.extend(attribute.t for attribute in node.attribute if attribute.name == "value")
    for tensor in constants:
        shape = onnx.numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and shape.size > 1 and shape[0] == 1:
            shape[0] = 0  # as many as came in
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    for node in proto.graph.node:
        # With allowzero, a 0 would be a dimension of nothing.
        kept = [attribute for attribute in node.attribute if node.op_type != "Reshape" or attribute.name != "allowzero"]
        if len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def _predict(
    path: Path, input_name: str, output_name: str, *, single: bool
) -> Callable[[npt.NDArray[np.generic]], Floats]:
    session = runtime.session(path)

    def predict(images: npt.NDArray[np.generic]) -> Floats:
        parts = np.split(images, len(images)) if single else [images]
        return np.concatenate([runtime.run(session, output_name, {input_name: part}) for part in parts])

    return predict


def _precision(proto: onnx.ModelProto, given: ImageInput) -> Precision:
    if any(node.op_type in _QUANTISED for node in proto.graph.node):
        return "int8"
    return "fp16" if given.element == "float16" else "fp32"


def _source(proto: onnx.ModelProto, path: Path) -> dict[str, str]:
    producer = f"{proto.producer_name} {proto.producer_version}".strip() or "unknown"
    versions = {"onnx": str(onnx.__version__), "onnxruntime": runtime.VERSION}
    return {"file": path.name, "sha256": digest(path), "producer": producer, **versions}
