"""ONNX files as other frameworks write them, with everything that was ever refused or misread."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.export.matrix.case import Case, Floats, Made, Pixels, pair, sigmoid, softmax
from tests.support.models import tiny_onnx

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def torch_mode(images: Pixels) -> Floats:
    return ((images / 255 - MEAN) / DEVIATION).astype(np.float32)


def case(
    name: str,
    build: Callable[[], onnx.ModelProto],
    *options: str,
    layout: str = "nchw",
    kind: type = np.float32,
    prepare: Callable[[Pixels], Floats] = torch_mode,
    head: Callable[[Floats], Floats] = lambda x: x,
    preprocess: str | None = "torch",
    external: bool = False,
    **more: Any,
) -> Case:
    def make(folder: Path) -> Made:
        path = folder / "model.onnx"
        onnx.save(build(), path, save_as_external_data=external, location="model.onnx.data", size_threshold=0)
        stated = ("--preprocess", preprocess) if preprocess else ()

        def predict(images: Pixels) -> Floats:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            given = prepare(images)
            ordered: Floats = (given.transpose(0, 3, 1, 2) if layout == "nchw" else given).astype(kind)
            (name,) = [value.name for value in session.get_inputs()]
            rows = [session.run(None, {name: image[np.newaxis]})[0].reshape(1, -1) for image in ordered]
            return head(np.concatenate(rows).astype(np.float32))

        return Made(path, predict, (*stated, *options))

    return Case(name, make, **{"outputs": tiny_onnx.CLASSES, **more})


def ending_in(nodes: list[onnx.NodeProto], output: list[str | int] | None = None) -> onnx.ModelProto:
    """The tiny network with further nodes behind its logits `scores`; the last gives `out`."""
    made = tiny_onnx.model()
    del made.graph.output[:]
    made.graph.node.extend(nodes)
    shape = output or ["batch", tiny_onnx.CLASSES]
    made.graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, shape))
    return made


def _sigmoids(kind: str, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node
    first, second = node("Sigmoid", ["scores"], ["own_a"]), node("Sigmoid", ["own_half"], ["own_b"])
    half = [
        node("Constant", [], ["0.5"], value=numpy_helper.from_array(np.float32(0.5))),
        node("Mul", ["scores", "0.5"], ["own_half"]),
    ]
    return ending_in(
        [first, *half, second, node(kind, ["own_a", "own_b"], ["out"], **attributes)],
        ["batch", 8 if kind == "Concat" else 4],
    )


def _reduced_mean() -> onnx.ModelProto:
    node = helper.make_node
    made = ending_in(
        [node("Sigmoid", ["scores"], ["own_a"]), node("Unsqueeze", ["own_a", "axis"], ["own_b"]),
         node("Concat", ["own_b", "own_b"], ["own_c"], axis=1),
         node("ReduceMean", ["own_c"], ["out"], axes=[1], keepdims=0)]
    )  # fmt: skip
    made.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    return made


def _train_mode() -> onnx.ModelProto:
    """Batch normalisation over the batch at hand, as a network exported without model.eval() has it."""
    node = helper.make_node
    return ending_in(
        [node("ReduceMean", ["scores"], ["own_m"], axes=[0], keepdims=1), node("Sub", ["scores", "own_m"], ["own_d"]),
         node("Softmax", ["own_d"], ["out"], axis=1)]
    )  # fmt: skip


def _dynamic_quantisation() -> onnx.ModelProto:
    node = helper.make_node
    return ending_in(
        [node("DynamicQuantizeLinear", ["scores"], ["own_q", "own_s", "own_z"]),
         node("DequantizeLinear", ["own_q", "own_s", "own_z"], ["own_d"]),
         node("Softmax", ["own_d"], ["out"], axis=1)]
    )  # fmt: skip


def _ir_3() -> onnx.ModelProto:
    """Weights are inputs as well, and the opset is an old one."""
    made = tiny_onnx.model(ends="Softmax")
    made.ir_version = 3
    made.opset_import[0].version = 8
    for node in made.graph.node:
        if node.op_type == "Clip":
            del node.input[1:]
            node.attribute.extend([helper.make_attribute("min", 0.0), helper.make_attribute("max", 6.0)])
    for tensor in list(made.graph.initializer):
        if tensor.name in ("zero", "six"):
            made.graph.initializer.remove(tensor)
            continue
        made.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return made


def _if_with_outer_names() -> onnx.ModelProto:
    node, info = helper.make_node, helper.make_tensor_value_info
    shape = ["batch", tiny_onnx.CLASSES]
    branches = {
        f"{name}_branch": helper.make_graph(
            [node("Softmax", ["scores"], [name], axis=1)], name, [], [info(name, TensorProto.FLOAT, shape)]
        )
        for name in ("then", "else")
    }
    true = node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    return ending_in([true, node("If", ["yes"], ["out"], **branches)])


def _batch_as_minus_one() -> onnx.ModelProto:
    made = tiny_onnx.model(ends="Softmax")
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return made


def _with_function() -> onnx.ModelProto:
    """A softmax in a local function, as PyTorch's new exporter writes what it can't name."""
    made = tiny_onnx.model()
    body = helper.make_function(
        "local",
        "Choose",
        ["x"],
        ["y"],
        [helper.make_node("Softmax", ["x"], ["y"], axis=1)],
        [helper.make_opsetid("", 17)],
    )
    made.functions.append(body)
    made.opset_import.append(helper.make_opsetid("local", 1))
    made.graph.node[-1].output[0] = "logits"
    made.graph.node.append(helper.make_node("Choose", ["logits"], ["scores"], domain="local"))
    return made


def _one_row() -> onnx.ModelProto:
    node = helper.make_node
    return ending_in(
        [node("ReduceMean", ["scores"], ["own_m"], axes=[0], keepdims=1), node("Softmax", ["own_m"], ["out"], axis=1)],
        [1, 4],
    )


def _sequence() -> onnx.ModelProto:
    made = tiny_onnx.model()
    del made.graph.output[:]
    made.graph.node.append(helper.make_node("SequenceConstruct", ["scores"], ["out"]))
    made.graph.output.append(helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, ["batch", 4]))
    return made


def _normalising() -> onnx.ModelProto:
    """Pixels / 255 and ImageNet's normalisation within, as people export for phones."""
    made = tiny_onnx.model(ends="Softmax")
    constants = {"255": np.float32(255), "mean": MEAN.reshape(3, 1, 1), "deviation": DEVIATION.reshape(3, 1, 1)}
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    chain = [("Div", "images", "255"), ("Sub", "n0", "mean"), ("Div", "n1", "deviation")]
    for index, (kind, given, constant) in enumerate(chain):
        made.graph.node.insert(index, helper.make_node(kind, [given, constant], [f"n{index}"]))
    made.graph.node[3].input[0] = "n2"
    return made


def onnx_files() -> Iterator[Case]:
    softmaxed = {"build": lambda: tiny_onnx.model(ends="Softmax")}
    yield case("softmax", softmaxed["build"])
    yield case("logits", tiny_onnx.model, asks="--output-kind classes")
    yield case("logits, stated", tiny_onnx.model, "--output-kind", "classes", head=softmax)
    yield case("log-softmax", lambda: tiny_onnx.model(ends="LogSoftmax"), head=np.exp)
    yield case("sigmoids", lambda: tiny_onnx.model(ends="Sigmoid"))
    yield case("one sigmoid", lambda: tiny_onnx.model(ends="Sigmoid", classes=1), head=pair, outputs=2)
    yield case(
        "one logit, stated",
        lambda: tiny_onnx.model(classes=1),
        "--output-kind",
        "binary",
        head=lambda x: pair(sigmoid(x)),
        outputs=2,
    )
    yield case("Concat of sigmoids", lambda: _sigmoids("Concat", axis=1), outputs=8)
    yield case("Mean of sigmoids", lambda: _sigmoids("Mean"))
    yield case("ReduceMean of sigmoids", _reduced_mean)
    yield case("Mul of sigmoids", lambda: _sigmoids("Mul"), asks="--output-kind")
    yield case("train mode", _train_mode, asks="model.eval()")
    yield case("dynamic quantisation", _dynamic_quantisation, asks="depends on the other images")
    yield case("IR version 3", _ir_3)
    yield case("If with outer names", _if_with_outer_names)
    yield case("batch as -1", _batch_as_minus_one)
    yield case("batch of 1", lambda: tiny_onnx.model(batch=1, ends="Softmax"))
    yield case("batch of 4", lambda: tiny_onnx.model(batch=4), asks="4 images at a time")
    yield case("local function", _with_function)
    yield case("weights beside the file", softmaxed["build"], external=True)
    yield case("one row for the batch", _one_row, asks="one row per image")
    yield case("a sequence as output", _sequence, asks="output is a sequence")
    yield case("scores on a map", lambda: tiny_onnx.model(flatten=False, ends="Softmax"))
    yield case("NHWC", lambda: tiny_onnx.model(layout="nhwc", ends="Softmax"), layout="nhwc")
    yield case("normalising within", _normalising, preprocess=None, prepare=lambda x: x.astype(np.float32))
    yield case("normalisation not said", softmaxed["build"], preprocess=None, asks="does not tell how the pixels")
