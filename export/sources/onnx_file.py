"""Another framework's ONNX classifier, as it is: its ends, its layout, its answers.

Its batch is made dynamic where the file fixed it to one image.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from export.artefact.description import Precision
from export.convert import runtime
from export.errors import BadArgument, ConversionFailed, NotAClassifier, UnreadableFile

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Layout = Literal["nchw", "nhwc"]

_TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.uint8}
_QUANTISED = frozenset(("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul"))

#: What the operator that a graph ends in says of its outputs; see head.py.
_ACTIVATIONS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "Relu": "relu",
    **dict.fromkeys(("Gemm", "MatMul", "Add", "Conv", "GlobalAveragePool", "ReduceMean"), "linear"),
}

#: They give the numbers that they take.
_TRANSPARENT = frozenset(
    ("Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze")
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """`proto` is ready to be put into a larger graph; `single` says that the file itself takes one image only."""

    path: Path
    proto: onnx.ModelProto = field(repr=False)
    input_name: str
    output_name: str
    element: int
    layout: Layout
    height: int
    width: int
    single: bool

    @property
    def precision(self) -> Precision:
        if any(node.op_type in _QUANTISED for node in self.proto.graph.node):
            return "int8"
        return "fp16" if self.element == TensorProto.FLOAT16 else "fp32"

    @property
    def activation(self) -> str | None:
        """What the graph ends in, in head.py's words; None where that tells nothing."""
        makers = {name: node for node in self.proto.graph.node for name in node.output}
        name = self.output_name
        while name in makers and makers[name].op_type in _TRANSPARENT:
            name = makers[name].input[0]
        return _ACTIVATIONS.get(makers[name].op_type) if name in makers else None

    @property
    def source(self) -> dict[str, str]:
        """For the artefact's source entry."""
        producer = f"{self.proto.producer_name} {self.proto.producer_version}".strip() or "unknown"
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        versions = {"onnx": str(onnx.__version__), "onnxruntime": runtime.VERSION}
        return {"file": self.path.name, "sha256": digest, "producer": producer, **versions}

    def answering(self) -> Callable[[Floats], Floats]:
        """The file's own answers, [N,outputs] for normalised images [N,height,width,3]; raises ConversionFailed."""
        session = runtime.session(self.path)

        def run(images: Floats) -> Floats:
            ordered = images.transpose(0, 3, 1, 2) if self.layout == "nchw" else images
            given = np.ascontiguousarray(ordered, _TYPES[self.element])
            return np.asarray(session.run([self.output_name], {self.input_name: given})[0], np.float32)

        def answer(images: Floats) -> Floats:
            try:
                parts = np.split(images, len(images)) if self.single else [images]
                return _rows(np.concatenate([run(part) for part in parts]))
            # ONNX Runtime has an exception for each status code.
            except Exception as error:
                raise ConversionFailed(
                    f"{self.path} fails on images of {self.height}x{self.width}: {error};"
                    " are --layout and --size right?"
                ) from error

        return answer


def _rows(scores: Floats) -> Floats:
    """[N,C,1,1] as [N,C]; anything else as it is."""
    return scores.reshape(scores.shape[:2]) if scores.ndim > 2 and set(scores.shape[2:]) == {1} else scores


def read(path: Path, *, layout: Layout | None, size: tuple[int, int] | None) -> Foreign:
    """Raises UnreadableFile, NotAClassifier, BadArgument."""
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    # What a damaged file raises is up to protobuf and to the checker.
    except Exception as error:
        raise UnreadableFile(
            f"{path} can't be read as an ONNX model: {str(error).strip().partition(chr(10))[0]}"
        ) from error
    image, scores = _ends(proto)
    shape = _shape(image)
    if len(shape) != 4 or image.type.tensor_type.elem_type not in _TYPES:
        raise NotAClassifier(
            f"the model is no classifier of RGB images: its input is {onnx.helper.printable_value_info(image)}, where"
            " float32, float16 or uint8 [N,3,height,width] or [N,height,width,3] is needed"
        )
    chosen = _layout(shape, layout)
    height, width = _size(shape[2:4] if chosen == "nchw" else shape[1:3], size)
    single = _single(shape[0], path)
    if single:
        _free_batch(proto)
    return Foreign(
        path, proto, image.name, scores.name, image.type.tensor_type.elem_type, chosen, height, width, single
    )


def _ends(proto: onnx.ModelProto) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    # Before IR version 4 every weight was listed as an input as well.
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs, outputs = [value for value in proto.graph.input if value.name not in weights], proto.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join(value.name for value in (*inputs, *outputs))
        raise NotAClassifier(
            f"the model is no image classifier: it has {len(inputs)} inputs and {len(outputs)} outputs ({names}), where"
            " one of each is needed; onnx.utils.extract_model cuts out the part between two of them"
        )
    return inputs[0], outputs[0]


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """None for a dimension that is a name or unknown."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def _layout(shape: tuple[int | None, ...], given: Layout | None) -> Layout:
    places: tuple[tuple[Layout, int], ...] = (("nchw", 1), ("nhwc", 3))
    fitting = [name for name, axis in places if shape[axis] in (3, None)]
    exact = [name for name, axis in places if shape[axis] == 3]
    candidates = [given] if given in fitting else [] if given is not None else exact or fitting
    if len(candidates) != 1:
        text = "[" + ",".join("any" if n is None else str(n) for n in shape) + "]"
        raise BadArgument(
            f"the model's input is {text}, which doesn't fit --layout {given}"
            if given is not None
            else f"the model's input is {text}: say with --layout nchw|nhwc where its three channels are"
        )
    return candidates[0]


def _size(fixed: tuple[int | None, ...], given: tuple[int, int] | None) -> tuple[int, int]:
    height, width = given or fixed
    if height is None or width is None:
        raise BadArgument("the model takes images of any size: choose one with --size HxW, such as --size 224")
    if any(own not in (None, chosen) for own, chosen in zip(fixed, (height, width), strict=True)):
        raise BadArgument(f"--size {height}x{width} doesn't fit the model's input, which is {fixed[0]}x{fixed[1]}")
    return height, width


def _single(batch: int | None, path: Path) -> bool:
    if batch not in (None, 1):
        raise NotAClassifier(
            f"{path} takes {batch} images at a time, no more and no fewer: export it again with a dynamic batch"
            ' (PyTorch: torch.onnx.export(..., dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}))'
        )
    return batch == 1


def _free_batch(proto: onnx.ModelProto) -> None:
    """Lets go of the one image at a time: in what is said of shapes, and in the targets of reshapes.

    Whether that was all is seen by running the result with several.
    """
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
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
