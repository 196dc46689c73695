"""ONNX files of other frameworks that users have and tutorials have not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from tests.export.matrix.case import Case, Floats, Made, Pixels
from tests.export.matrix.onnx_cases import case, ending_in, torch_mode
from tests.support.models import tiny_onnx

node = helper.make_node
info = helper.make_tensor_value_info

CLASSES = tiny_onnx.CLASSES


def constant(value: Any, name: str) -> onnx.NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name))


def softmaxed(*behind: onnx.NodeProto, output: list[str | int] | None = None) -> onnx.ModelProto:
    """The tiny network, a softmax, and further nodes; the last gives `out`, the first takes `own_p`."""
    return ending_in([node("Softmax", ["scores"], ["own_p"], axis=1), *behind], output)


def opset_21() -> onnx.ModelProto:
    return onnx.version_converter.convert_version(tiny_onnx.model(ends="Softmax"), 21)


def two_outputs() -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    made.graph.output.append(info("h", TensorProto.FLOAT, ["batch", 8]))
    return made


def two_inputs() -> onnx.ModelProto:
    made = ending_in([node("Add", ["scores", "bias"], ["own_s"]), node("Softmax", ["own_s"], ["out"], axis=1)])
    made.graph.input.append(info("bias", TensorProto.FLOAT, ["batch", CLASSES]))
    return made


def top_class() -> onnx.ModelProto:
    made = softmaxed(node("ArgMax", ["own_p"], ["out"], axis=1, keepdims=0), output=["batch"])
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return made


def unknown_operator() -> onnx.ModelProto:
    made = softmaxed(node("Magic", ["own_p"], ["out"], domain="my.company"))
    made.opset_import.append(helper.make_opsetid("my.company", 1))
    return made


def contributed() -> onnx.ModelProto:
    """An operator of ONNX Runtime alone, as its optimiser writes them."""
    made = ending_in(
        [node("FastGelu", ["scores"], ["own_g"], domain="com.microsoft"), node("Softmax", ["own_g"], ["out"], axis=1)]
    )
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def dropout() -> onnx.ModelProto:
    """Exported in training mode."""
    return ending_in(
        [constant(np.float32(0.5), "own_r"), constant(np.array(True), "own_t"),
         node("Dropout", ["scores", "own_r", "own_t"], ["own_d"]), node("Softmax", ["own_d"], ["out"], axis=1)]
    )  # fmt: skip


def looped() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["going"], ["still"]), node("Add", ["carried", "carried"], ["next"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("going", TensorProto.BOOL, []),
            info("carried", TensorProto.FLOAT, None),
        ],
        [info("still", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)],
    )
    steps = [constant(np.array(2, np.int64), "own_n"), constant(np.array(True), "own_c")]
    loop = node("Loop", ["own_n", "own_c", "scores"], ["own_l"], body=body)
    return ending_in([*steps, loop, node("Softmax", ["own_l"], ["out"], axis=1)])


def doubles() -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    made.graph.node[0].CopyFrom(node("Cast", ["images"], ["x"], to=TensorProto.FLOAT))
    return made


def whole_numbers() -> onnx.ModelProto:
    made = doubles()
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    made.graph.node[0].CopyFrom(node("Cast", ["images"], ["own_f"], to=TensorProto.FLOAT))
    made.graph.initializer.append(numpy_helper.from_array(np.float32(255), "own_255"))
    made.graph.node.insert(1, node("Div", ["own_f", "own_255"], ["x"]))
    return made


def strings() -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    made.graph.node[0].CopyFrom(node("Cast", ["images"], ["x"], to=TensorProto.FLOAT))
    return made


def features() -> onnx.ModelProto:
    """A network for tables."""
    graph = helper.make_graph(
        [node("MatMul", ["x", "w"], ["y"]), node("Softmax", ["y"], ["p"], axis=1)],
        "table",
        [info("x", TensorProto.FLOAT, ["batch", 8])],
        [info("p", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.ones((8, CLASSES), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class _Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    def __init__(self) -> None:
        self._left = iter(np.random.default_rng(5).normal(0, 1, (8, 1, 3, 16, 16)).astype(np.float32))

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._left, None)
        return None if image is None else {"images": image}


def quantised(name: str) -> Case:
    """By ONNX Runtime's own static quantisation."""

    def make(folder: Path) -> Made:
        exact = tiny_onnx.save(tiny_onnx.model(ends="Softmax"), folder / "exact.onnx")
        quantize_static(exact, folder / "quantised.onnx", _Images(), quant_format=QuantFormat.QDQ)
        return case(name, lambda: onnx.load(folder / "quantised.onnx")).make(folder)

    return Case(name, make, outputs=CLASSES, within=5e-3)


def of_bytes(name: str, content: Callable[[], bytes], asks: str) -> Case:
    def make(folder: Path) -> Made:
        (folder / "model.onnx").write_bytes(content())
        return Made(folder / "model.onnx", torch_mode, ("--preprocess", "torch"))

    return Case(name, make, outputs=CLASSES, asks=asks)


def without_weights() -> bytes:
    """The weights were in a second file, which was not copied."""
    made = tiny_onnx.model(ends="Softmax")
    for tensor in made.graph.initializer:
        if tensor.raw_data:
            onnx.external_data_helper.set_external_data(tensor, "missing.data", 0, len(tensor.raw_data))
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    return bytes(made.SerializeToString())


#: Of CIFAR-10, as its training scripts have them.
MEAN = np.array([0.4914, 0.4822, 0.4465])
DEVIATION = np.array([0.247, 0.2435, 0.2616])


def cifar(images: Pixels) -> Floats:
    return np.asarray((images / 255 - MEAN) / DEVIATION)


def onnx_files() -> Iterator[Case]:
    identity = node("Identity", ["own_p"], ["out"])
    yield case("opset 21", opset_21)
    numbers = "/".join(",".join(map(str, values)) for values in (MEAN, DEVIATION))
    softmax = tiny_onnx.model(ends="Softmax")
    yield case("numbers of CIFAR-10", lambda: softmax, preprocess=numbers, prepare=cifar)
    yield case("open height and width", lambda: tiny_onnx.model(ends="Softmax", size="side"), "--size", "16")
    yield case("open height and width, not said", lambda: tiny_onnx.model(ends="Softmax", size="side"), asks="--size")
    yield case("softmax, then Identity", lambda: softmaxed(identity))
    yield case("softmax of the last axis", lambda: ending_in([node("Softmax", ["scores"], ["out"], axis=-1)]))
    yield case("two outputs", two_outputs, asks="2 outputs")
    yield case("two inputs", two_inputs, asks="2 inputs")
    yield case("the index of the class", top_class, asks="no probabilities")
    yield case("an operator of one's own", unknown_operator, asks="my.company")
    yield case("an operator of ONNX Runtime", contributed)
    yield case("dropout in training mode, which ONNX Runtime leaves out", dropout)
    yield case("a loop", looped)
    yield case("a loop of doubles", doubles, asks="float32, float16 or uint8")
    yield case("uint8 within", whole_numbers, preprocess=None, prepare=lambda x: x, kind=np.uint8)
    yield case("int32", strings, asks="float32, float16 or uint8")
    yield case("a network for tables", features, asks="does not take images")
    half = {"element": TensorProto.FLOAT16, "ends": "Softmax"}
    yield case("float16 throughout", lambda: tiny_onnx.model(**half), kind=np.float16, within=5e-3)
    yield quantised("quantised by ONNX Runtime")
    yield of_bytes("the file of its weights is missing", without_weights, "missing.data")
    yield of_bytes("cut off", lambda: tiny_onnx.model().SerializeToString()[:900], "can't be read as an ONNX model")
    yield of_bytes(
        "a web page", lambda: b"<!DOCTYPE html><html>404: Not Found</html>", "can't be read as an ONNX model"
    )
