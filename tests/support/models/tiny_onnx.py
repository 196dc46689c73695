"""ONNX classifiers as another framework would write them, built by hand, and images for them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE = 16
CLASSES = 4

Floats = npt.NDArray[np.float32]


def model(
    *,
    batch: str | int = "batch",
    layout: str = "nchw",
    ends: str = "",
    size: int | str = SIZE,
    element: int = TensorProto.FLOAT,
    classes: int = CLASSES,
    flatten: bool = True,
    residual: bool = True,
) -> onnx.ModelProto:
    """A stem, a depthwise convolution, a residual and a dense layer; `ends` is an operator behind its logits.

    With batch 1 its flattening is a Reshape to [1,8], as tracing writes it.
    """
    random = np.random.default_rng(11)
    weights = {
        "stem.w": random.normal(0, 0.3, (8, 3, 3, 3)),
        "stem.b": random.normal(0, 0.1, 8),
        "depthwise.w": random.normal(0, 0.4, (8, 1, 3, 3)),
        "depthwise.b": random.normal(0, 0.1, 8),
        "point.w": random.normal(0, 0.4, (8, 8, 1, 1)),
        "point.b": random.normal(0, 0.1, 8),
        "dense.w": random.normal(0, 2, (classes, 8)),
        "dense.b": random.normal(0, 0.1, classes),
        "six": np.float32(6),
        "zero": np.float32(0),
    }
    kind = np.float16 if element == TensorProto.FLOAT16 else np.float32
    initialisers = [numpy_helper.from_array(np.asarray(value, kind), name) for name, value in weights.items()]
    if batch == 1:
        initialisers.append(numpy_helper.from_array(np.array([1, 8], np.int64), "flat"))
    shape = [batch, 3, size, size] if layout == "nchw" else [batch, size, size, 3]
    names = ["images", "scores"]  # those of an artefact, to be in the way
    nodes = _front(layout, names[0])
    nodes += [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"], name="clip"),
        helper.make_node("Conv", ["b", "depthwise.w", "depthwise.b"], ["c"], name="depthwise", group=8, pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("Conv", ["d", "point.w", "point.b"], ["e"], name="point"),
        helper.make_node("Add", ["d", "e"], ["f"]) if residual else helper.make_node("Identity", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Reshape", ["g", "flat"], ["h"])
        if batch == 1
        else helper.make_node("Flatten", ["g"], ["h"], axis=1),
        helper.make_node("Gemm", ["h", "dense.w", "dense.b"], ["i"], transB=1),
        helper.make_node(ends or "Identity", ["i"], ["j" if not flatten else names[1]]),
    ]
    output: list[str | int] = [batch, classes]
    if not flatten:
        initialisers.append(numpy_helper.from_array(np.array([0, classes, 1, 1], np.int64), "square"))
        nodes.append(helper.make_node("Reshape", ["j", "square"], [names[1]]))
        output += [1, 1]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(names[0], element, shape)],
        [helper.make_tensor_value_info(names[1], element, output)],
        initialisers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="torch")
    made.ir_version = 9
    return made


def _front(layout: str, name: str) -> list[onnx.NodeProto]:
    if layout == "nchw":
        return [helper.make_node("Identity", [name], ["x"])]
    return [helper.make_node("Transpose", [name], ["x"], perm=[0, 3, 1, 2])]


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)
    return path


def answers(path: Path, given: Floats) -> Floats:
    """What ONNX Runtime makes of the file itself, one image at a time."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (taken,), (answered,) = session.get_inputs(), session.get_outputs()
    return np.concatenate([session.run([answered.name], {taken.name: one[np.newaxis]})[0] for one in given])


def images(folder: Path, count: int = 40, *, size: int = 24) -> Path:
    """Waves of many colours and lengths, no two alike, as PNG."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(12)
    y, x = np.mgrid[0:size, 0:size] / size
    for index in range(count):
        waves = [np.sin(6.3 * (a * x + b * y) + c) for a, b, c in random.uniform(-2, 2, (3, 3))]
        tint = random.uniform(0, 127, 3)
        Image.fromarray((tint + 64 + 63 * np.stack(waves, -1)).astype(np.uint8)).save(folder / f"{index:03}.png")
    return folder
