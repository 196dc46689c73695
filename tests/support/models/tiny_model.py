"""Small real ONNX classifiers for the tests, in the shape that `python -m export` writes.

The network is a linear classifier over the mean colour of the four quarters of the image: it costs next to
nothing, and every pixel and every channel counts, so that a wrong row, a stale buffer or swapped channels show.
"""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 10


def build(
    models_dir: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    size: int = 16,
    classes: int = CLASSES,
    seed: int = 7,
    resize: dict[str, object] | None = None,
    precision: str = "fp32",
) -> Path:
    """Write `<models_dir>/<name>/<version>/model.onnx`: uint8 [N, size, size, 3] to float32 [N, classes]."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (12, classes)).astype(np.float32)
    model = _network(size, weights)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    metadata = {
        "sluice.format": "1",
        "sluice.name": name,
        "sluice.version": version,
        "sluice.labels": json.dumps([f"class_{number}" for number in range(classes)]),
        "sluice.input": json.dumps({"height": size, "width": size}),
        "sluice.resize": json.dumps(resize or {"mode": "squash", "shorter_side": None, "interpolation": "bicubic"}),
        "sluice.precision": precision,
        "sluice.golden.input": base64.b64encode(zlib.compress(image.tobytes())).decode(),
        "sluice.golden.output": base64.b64encode(expected(image[None], weights)[0].tobytes()).decode(),
    }
    helper.set_model_props(model, metadata)
    path = models_dir / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def damaged(path: Path) -> Path:
    """Write a file beside this one that computes something else, and says the same of itself."""
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "weights")
    tensor.CopyFrom(numpy_helper.from_array(weights(seed=1), "weights"))
    onnx.save(model, path.with_name("damaged.onnx"))
    return path.with_name("damaged.onnx")


def weights(*, classes: int = CLASSES, seed: int = 7) -> NDArray[np.float32]:
    """The weights that `build` gives the same arguments."""
    return np.random.default_rng(seed).normal(0, 1, (12, classes)).astype(np.float32)


def expected(images: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network answers, computed with NumPy: float32 [N, classes] for uint8 [N, H, W, 3]."""
    count, height, width, _ = images.shape
    quarters = images.astype(np.float32).reshape(count, 2, height // 2, 2, width // 2, 3).mean((2, 4)) / 64
    logits = quarters.reshape(count, 12) @ weights
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def _network(size: int, weights: NDArray[np.float32]) -> onnx.ModelProto:
    half = size // 2
    constants = {
        "scale": np.float32(1 / 64),
        "grid": np.array([-1, 2, half, 2, half, 3], np.int64),
        "flat": np.array([-1, 12], np.int64),
        "weights": weights,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "grid"], ["gridded"]),
        helper.make_node("ReduceMean", ["gridded"], ["means"], axes=[2, 4], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
