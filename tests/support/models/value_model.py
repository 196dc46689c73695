"""A model that gives values instead of probabilities: all pixels of a 2 x 2 image, in order."""

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def write_value_model(path: Path, *, channels: int, metadata: bool = True) -> Path:
    """uint8 [N, 2, 2, channels] to float32 [N, 4 * channels]; without metadata it says nothing of itself."""
    outputs = 4 * channels
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["values"], axis=1),
        ],
        "values",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 2, 2, channels])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", outputs])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    if metadata:
        helper.set_model_props(model, _metadata(path, channels, outputs))
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def _metadata(path: Path, channels: int, outputs: int) -> dict[str, str]:
    return {
        "sluice.format": "1",
        "sluice.name": path.parent.parent.name,
        "sluice.version": path.parent.name,
        "sluice.labels": json.dumps([str(index) for index in range(outputs)]),
        "sluice.input": json.dumps({"height": 2, "width": 2, "channels": channels}),
        "sluice.resize": json.dumps({"mode": "squash"}),
        "sluice.precision": "fp32",
        "sluice.output_kind": "values",
    }
