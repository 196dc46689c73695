"""Takes out of a quantised network what rounding shifts every channel by on average.

Rounding is not fair: behind a ReLU most values are small, and of a channel whose values are smaller than a
step nearly all are rounded the same way; the weights that follow add that up over their whole window. The
mean of each output channel is measured for the same float inputs, with and without rounding of inputs and
weights, and the difference goes into the bias, which costs nothing at inference.

EfficientNet-Lite0 over 180 crops of images not used for calibration: top-1 agreement with fp32 0.81
without, 0.89 with it, the largest difference of a probability 0.29 and 0.15.

Source of the idea: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
arXiv:1906.04721, section 4.2 (empirical bias correction), here from the inputs of the float network.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from export.artefact.description import INPUT_NAME
from export.convert.runtime import session
from export.images.resize import Images

#: Images in one run; every layer is computed twice.
BATCH = 4

Means = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the quantised graph, the same of the float graph, and the Q -> DQ pair in front of the former."""

    rounded: onnx.NodeProto
    exact: onnx.NodeProto
    quantize: onnx.NodeProto
    constants: tuple[onnx.NodeProto, ...]

    @property
    def bias(self) -> onnx.NodeProto:
        return self.constants[1]


def correct(
    exact: onnx.ModelProto, rounded: onnx.ModelProto, images: Images, on_progress: Callable[[int, int], None]
) -> None:
    """Changes the biases of `rounded`, the quantised form of `exact` with the same names of nodes."""
    layers = list(_layers(exact, rounded))
    if not layers:
        return
    shifts = _shifts(exact, rounded, layers, images, on_progress)
    stored = {tensor.name: tensor for tensor in rounded.graph.initializer}
    for layer in layers:
        tensor, scale = stored[layer.bias.input[0]], onnx.numpy_helper.to_array(stored[layer.bias.input[1]])
        steps = np.round(shifts[layer.exact.name] / scale)
        corrected = (onnx.numpy_helper.to_array(tensor) + steps).astype(np.int32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(corrected, tensor.name))


def _layers(exact: onnx.ModelProto, rounded: onnx.ModelProto) -> Iterator[_Layer]:
    """The convolutions and dense layers that were quantised with a bias, each bias once."""
    exact_nodes = {node.name: node for node in exact.graph.node}
    makers = {name: node for node in rounded.graph.node for name in node.output}
    seen: set[str] = set()
    for node in rounded.graph.node:
        inputs = [makers[name] for name in node.input if name in makers]
        if node.op_type not in ("Conv", "Gemm") or len(inputs) != 3 or node.name not in exact_nodes:
            continue
        if any(maker.op_type != "DequantizeLinear" for maker in inputs) or inputs[2].input[0] in seen:
            continue
        quantize = makers.get(inputs[0].input[0])
        if quantize is not None:
            seen.add(inputs[2].input[0])
            yield _Layer(node, exact_nodes[node.name], quantize, (inputs[1], inputs[2]))


def _shifts(
    exact: onnx.ModelProto,
    rounded: onnx.ModelProto,
    layers: list[_Layer],
    images: Images,
    on_progress: Callable[[int, int], None],
) -> Means:
    """By name, the mean of each channel of a layer's output less that of its rounded twin."""
    running = session(_side_by_side(exact, rounded, layers).SerializeToString(), optimised=False)
    names = [output.name for output in running.get_outputs()]
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        for name, value in zip(names, running.run(names, {INPUT_NAME: batch}), strict=True):
            channels = value.reshape(len(batch), value.shape[1], -1).mean(axis=2, dtype=np.float64).sum(axis=0)
            sums[name] = sums.get(name, 0) + channels
        on_progress(start + len(batch), len(images))
    return {
        layer.exact.name: (sums[_mean_of(layer, "exact")] - sums[_mean_of(layer, "rounded")]) / len(images)
        for layer in layers
    }


def _side_by_side(exact: onnx.ModelProto, rounded: onnx.ModelProto, layers: list[_Layer]) -> onnx.ModelProto:
    """The float graph with a rounded twin beside each layer, and the means of both as its outputs."""
    both = onnx.ModelProto()
    both.CopyFrom(exact)
    del both.graph.output[:]
    for layer in layers:
        twin = _copied(layer.rounded, layer, "twin")
        quantize, dequantize = _copied(layer.quantize, layer, "q"), _copied(layer.constants[0], layer, "x")
        quantize.input[0] = layer.exact.input[0]
        # The float layer's own input, rounded as the quantised layer sees it.
        dequantize.CopyFrom(
            onnx.helper.make_node("DequantizeLinear", [quantize.output[0], *quantize.input[1:]], dequantize.output)
        )
        constants = [_copied(node, layer, f"c{index}") for index, node in enumerate(layer.constants)]
        twin.input[:] = [dequantize.output[0], *(node.output[0] for node in constants)]
        both.graph.node.extend([quantize, dequantize, *constants, twin])
        _add_mean(both, layer, "exact", layer.exact.output[0])
        _add_mean(both, layer, "rounded", twin.output[0])
    _add_constants(both, rounded)
    return both


def _copied(node: onnx.NodeProto, layer: _Layer, part: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{layer.exact.name}/{part}"
    copy.output[:] = [copy.name]
    return copy


def _mean_of(layer: _Layer, side: str) -> str:
    return f"{layer.exact.name}/mean/{side}"


def _add_mean(model: onnx.ModelProto, layer: _Layer, side: str, value: str) -> None:
    # GlobalAveragePool has one form in every opset, which ReduceMean has not.
    kind = "GlobalAveragePool" if layer.exact.op_type == "Conv" else "Identity"
    name = _mean_of(layer, side)
    model.graph.node.append(onnx.helper.make_node(kind, [value], [name]))
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


def _add_constants(both: onnx.ModelProto, rounded: onnx.ModelProto) -> None:
    there = {tensor.name for tensor in both.graph.initializer}
    needed = {name for node in both.graph.node for name in node.input} - there
    both.graph.initializer.extend(tensor for tensor in rounded.graph.initializer if tensor.name in needed)
