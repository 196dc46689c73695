"""An fp32 graph in int8: static, by QuantizeLinear / DequantizeLinear pairs, calibrated with images.

Weights are int8 with a scale for each channel, activations uint8 with the range that they had in the
calibration (MinMax).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.artefact.description import INPUT_NAME
from export.errors import ConversionFailed
from export.images.resize import Images
from export.precision import bias_correction

#: What gains by int8 and what lies between: a Clip or Relu that were left out would keep its convolution
#: from writing uint8 with the range behind it.
OPERATORS = ("Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Relu")

#: Means settle long before ranges do.
CORRECTION_IMAGES = 64

#: Per-channel scales exist since then.
LEAST_OPSET = 13

#: A stem has few convolutions; a depthwise one behind more of them is not part of it.
STEM_CONVOLUTIONS = 3

OnProgress = Callable[[int, int], None]


def quantised(proto: onnx.ModelProto, images: Images, on_progress: OnProgress) -> onnx.ModelProto:
    """`on_progress` gets how many of how many images were run; raises ConversionFailed."""
    # ONNX Runtime's tools open sessions of their own, which warn of harmless things.
    onnxruntime.set_default_logger_severity(3)
    correction = images[:CORRECTION_IMAGES]
    total = len(images) + len(correction)
    with TemporaryDirectory(prefix="sluice-int8-") as folder:
        try:
            exact = _prepared(_modern(proto), Path(folder))
            reader = _Reader(images, lambda count: on_progress(count, total))
            rounded = _quantised(exact, reader, Path(folder))
            bias_correction.correct(
                exact, rounded, correction, lambda count, _: on_progress(len(images) + count, total)
            )
        except ConversionFailed:
            raise
        # ONNX Runtime's tools raise what they like at a graph that they don't expect.
        except Exception as error:
            raise ConversionFailed(
                f"the network can't be quantised: {str(error).strip().partition(chr(10))[0]}"
            ) from error
    return rounded


def _modern(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return proto if opset >= LEAST_OPSET else onnx.version_converter.convert_version(proto, 17)


def _prepared(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """With batch norm folded, constants computed, shapes known, and a name for every node."""
    # By files: given a ModelProto, the tool moves its weights out of it.
    onnx.save(proto, folder / "original.onnx")
    # Symbolic shapes matter to transformers and would need one more package.
    quant_pre_process(folder / "original.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
    prepared = onnx.load(folder / "prepared.onnx")
    taken = {node.name for node in prepared.graph.node}
    for index, node in enumerate(prepared.graph.node):
        if not node.name:
            node.name = next(name for name in _names(node.op_type, index) if name not in taken)
            taken.add(node.name)
    return prepared


def _names(kind: str, index: int) -> Iterator[str]:
    yield f"{kind}_{index}"
    while True:
        index += 1_000_000
        yield f"{kind}_{index}"


def _quantised(exact: onnx.ModelProto, reader: CalibrationDataReader, folder: Path) -> onnx.ModelProto:
    onnx.save(exact, folder / "exact.onnx")
    quantize_static(
        folder / "exact.onnx",
        folder / "rounded.onnx",
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATORS),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=stem(exact),
        calibrate_method=CalibrationMethod.MinMax,
    )
    return onnx.load(folder / "rounded.onnx")


def stem(proto: onnx.ModelProto) -> list[str]:
    """The nodes up to the first depthwise convolution where one follows the stem at once (MobileNet, EfficientNet).

    Its channels differ in size by orders of magnitude, share one scale, and each is then amplified by weights of
    its own. Left in float, they raise EfficientNet-Lite0's top-1 agreement from 0.89 to 0.93 over 180 crops
    (and the other way round, calibration and check exchanged, from 0.91 to 0.93).
    """
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    depthwise = [index for index, node in enumerate(convolutions) if _groups(node) > 1]
    if not depthwise or depthwise[0] >= STEM_CONVOLUTIONS:
        return []
    kept = convolutions[: depthwise[0] + 1]
    outputs = {name for node in kept for name in node.output}
    activations = [
        node for node in proto.graph.node if node.op_type in ("Clip", "Relu") and outputs.intersection(node.input)
    ]
    return [node.name for node in (*kept, *activations)]


def _groups(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Gives one image at a time, so that the memory it takes does not grow with their number."""

    def __init__(self, images: Images, on_progress: Callable[[int], None]) -> None:
        self._images = iter(images)
        self._on_progress = on_progress
        self._count = 0

    def get_next(self) -> dict[str, Images] | None:
        image = next(self._images, None)
        if image is None:
            return None
        self._count += 1
        self._on_progress(self._count)
        return {INPUT_NAME: image[np.newaxis]}
