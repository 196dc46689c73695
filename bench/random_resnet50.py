"""ResNet50 with random weights, written without TensorFlow: as fast as the published one, for machines without both.

The network is that of He et al., "Deep Residual Learning for Image Recognition" (2015), with its batch normalisation
folded into the convolutions, in the shape that `python -m export` writes.
"""

import base64
import json
import tempfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bench.models import FP16, FP32
from export.precision.fp16 import halved

SIZE, CLASSES = 224, 1000

#: Blocks of each stage, and the width of their inner convolutions.
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4


def build(models_dir: Path) -> None:
    """Write versions in fp32 and fp16 to `<models_dir>/resnet50`, unless they are there."""
    wanted = {version: models_dir / "resnet50" / version / "model.onnx" for version in (FP32, FP16)}
    if all(path.exists() for path in wanted.values()):
        return
    fp32 = _Builder().network()
    for version, proto, precision in ((FP32, fp32, "fp32"), (FP16, halved(fp32), "fp16")):
        helper.set_model_props(proto, _metadata(proto, version, precision))
        wanted[version].parent.mkdir(parents=True, exist_ok=True)
        onnx.save(proto, wanted[version])


class _Builder:
    """Collects nodes and weights. Each convolution keeps the variance of its input, so that no value overflows fp16."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(50)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def network(self) -> onnx.ModelProto:
        last = self._normalised()
        last = self._convolution(last, 3, 64, size=7, stride=2)
        last = self._node("MaxPool", [last], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = 64
        for stage, (blocks, width) in enumerate(_STAGES):
            for block in range(blocks):
                last = self._block(last, channels, width, stride=2 if stage and not block else 1)
                channels = width * _EXPANSION
        last = self._node("Flatten", [self._node("GlobalAveragePool", [last])])
        weights = self._weight(self._random.normal(0, 0.005, (channels, CLASSES)))
        logits = self._node("Gemm", [last, weights, self._weight(np.zeros(CLASSES))])
        self._nodes.append(helper.make_node("Softmax", [logits], ["probabilities"], axis=1))
        graph = helper.make_graph(
            self._nodes,
            "resnet50",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model

    def _normalised(self) -> str:
        """uint8 pixels as floats around 0, channels first."""
        floats = self._node("Cast", ["images"], to=TensorProto.FLOAT)
        centred = self._node("Sub", [floats, self._weight(np.full(1, 127.5))])
        scaled = self._node("Mul", [centred, self._weight(np.full(1, 1 / 64))])
        return self._node("Transpose", [scaled], perm=[0, 3, 1, 2])

    def _block(self, source: str, channels: int, width: int, *, stride: int) -> str:
        """A bottleneck: 1 x 1, 3 x 3 and 1 x 1, added to its input, which is projected if the shape changes."""
        wide = width * _EXPANSION
        inner = self._convolution(source, channels, width, size=1, stride=1)
        inner = self._convolution(inner, width, width, size=3, stride=stride)
        inner = self._convolution(inner, width, wide, size=1, stride=1, gain=0.5, relu=False)
        if channels != wide:
            source = self._convolution(source, channels, wide, size=1, stride=stride, relu=False)
        return self._node("Relu", [self._node("Add", [source, inner])])

    def _convolution(
        self, source: str, channels: int, width: int, *, size: int, stride: int, gain: float = 1.0, relu: bool = True
    ) -> str:
        deviation = gain * np.sqrt(2 / (channels * size * size))
        weights = self._weight(self._random.normal(0, deviation, (width, channels, size, size)))
        shape = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [size // 2] * 4}
        found = self._node("Conv", [source, weights, self._weight(np.zeros(width))], **shape)
        return self._node("Relu", [found]) if relu else found

    def _weight(self, values: np.ndarray) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name


def _metadata(proto: onnx.ModelProto, version: str, precision: str) -> dict[str, str]:
    image = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"images": image[None]})
    return {
        "sluice.format": "1",
        "sluice.name": "resnet50",
        "sluice.version": version,
        "sluice.labels": json.dumps([f"class_{number}" for number in range(CLASSES)]),
        "sluice.input": json.dumps({"height": SIZE, "width": SIZE}),
        "sluice.resize": json.dumps({"mode": "squash", "shorter_side": None, "interpolation": "bicubic"}),
        "sluice.precision": precision,
        "sluice.source": json.dumps({"made_by": "bench/random_resnet50.py", "weights": "none"}),
        "sluice.golden.input": base64.b64encode(zlib.compress(image.tobytes())).decode(),
        "sluice.golden.output": base64.b64encode(output[0].astype("<f4").tobytes()).decode(),
    }
