"""A model of any output kind and number of channels: its outputs are the means of the channels of an image."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 8


#: What `sluice export --like image_dataset_from_directory` stores.
TENSORFLOW: dict[str, object] = {
    "mode": "squash", "interpolation": "bilinear", "antialias": False, "rounded": False, "fast_dct": True,
}  # fmt: skip


def build(
    models_dir: Path,
    name: str,
    *,
    output_kind: str,
    channels: int,
    version: str = "1",
    fractions: bool = False,
    size: int = SIZE,
    resize: Mapping[str, object] | None = None,
) -> Path:
    """Write `<models_dir>/<name>/<version>/model.onnx`: [N, size, size, channels] to float32 [N, channels].

    The means are in 0..255 for `values` and in 0..1 for `labels`. The input is uint8, or float32 with `fractions`.
    `resize` is by default TensorFlow's with `fractions`, else Pillow's.
    """
    scale = np.float32(1 if output_kind == "values" else 1 / 255)
    element = TensorProto.FLOAT if fractions else TensorProto.UINT8
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("Mul", ["means", "scale"], ["outputs"]),
        ],
        name,
        [helper.make_tensor_value_info("images", element, ["N", size, size, channels])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["N", channels])],
        [numpy_helper.from_array(np.asarray(scale), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    metadata = {
        "sluice.format": "1",
        "sluice.name": name,
        "sluice.version": version,
        "sluice.labels": json.dumps([f"channel_{number}" for number in range(channels)]),
        "sluice.input": json.dumps({"height": size, "width": size, "channels": channels}),
        "sluice.resize": json.dumps(resize or (TENSORFLOW if fractions else {"mode": "squash"})),
        "sluice.precision": "fp32",
        "sluice.output_kind": output_kind,
    }
    helper.set_model_props(model, metadata)
    path = models_dir / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path
