"""A network that costs next to nothing, so that what is left is the serving. Knows no server.

Slice, Cast, ReduceMean, MatMul, Softmax: the input and the output of ResNet50, with a few microseconds between
them. Every 28th pixel counts.
"""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

#: The version number of each precision.
FP32, INT8, FP16 = "1", "2", "3"

NAME = "nearzero"
SIZE = 224
CLASSES = 1000

_STEP = 28
_FEATURES = (SIZE // _STEP) * 3


def build(models_dir: Path) -> Path:
    """Write `<models_dir>/nearzero/1/model.onnx` unless it is there; returns its path."""
    path = models_dir / NAME / "1" / "model.onnx"
    if path.exists():
        return path
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, (_FEATURES, CLASSES)).astype(np.float32)
    image = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    model = _network(weights)
    helper.set_model_props(model, _metadata(image, answer(image[None], weights)[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def answer(images: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network answers, by NumPy: float32 [N, 1000] for uint8 [N, 224, 224, 3]."""
    features = images[:, ::_STEP, ::_STEP].astype(np.float32).mean(1).reshape(len(images), _FEATURES)
    logits = features @ weights
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def _metadata(image: NDArray[np.uint8], expected: NDArray[np.float32]) -> dict[str, str]:
    return {
        "sluice.format": "1",
        "sluice.name": NAME,
        "sluice.version": "1",
        "sluice.labels": json.dumps([f"class_{number}" for number in range(CLASSES)]),
        "sluice.input": json.dumps({"height": SIZE, "width": SIZE}),
        "sluice.resize": json.dumps({"mode": "squash", "shorter_side": None, "interpolation": "bicubic"}),
        "sluice.precision": "fp32",
        "sluice.preprocess": "none",
        "sluice.source": json.dumps({"made_by": "bench/models.py"}),
        "sluice.parity": json.dumps({"images": 1, "max_abs_difference": 0.0, "top1_agreement": 1.0}),
        "sluice.golden.input": base64.b64encode(zlib.compress(image.tobytes())).decode(),
        "sluice.golden.output": base64.b64encode(expected.tobytes()).decode(),
    }


def _network(weights: NDArray[np.float32]) -> onnx.ModelProto:
    constants = {
        "starts": np.array([0, 0], np.int64),
        "ends": np.array([SIZE, SIZE], np.int64),
        "axes": np.array([1, 2], np.int64),
        "steps": np.array([_STEP, _STEP], np.int64),
        "flat": np.array([-1, _FEATURES], np.int64),
        "weights": weights,
    }
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes", "steps"], ["few"]),
        helper.make_node("Cast", ["few"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1], keepdims=0),
        helper.make_node("Reshape", ["means", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
