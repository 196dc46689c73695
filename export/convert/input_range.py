"""What the first arithmetic of a network proves about the pixels that it was trained on.

The walk starts at the input and follows the only path from it. Everything on the path that scales or shifts a channel
is collected into y = scale * x + offset. The walk ends at the first operator that does anything else, or where the path
branches: behind a branch, arithmetic says nothing about the input.

A verdict needs numbers that make sense for one range of pixels only (see `_verdict`). Names are never looked at.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.artefact.description import Assumption
from export.convert.graph_view import GraphView, attribute

Channels = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

#: They change no number of a channel, or only where pixels lie.
_TRANSPARENT = frozenset(("Identity", "Cast", "Dropout", "Resize", "Upsample", "Pad"))

_REGROUPING = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))

#: caffe's means, in any order of channels, and the middle of 0..255 are all in here.
_MEANS_OF_BYTES = (80.0, 150.0)

#: How wide 0..255 is behind a normaliser.
_WIDTHS = (0.4, 10.0)

#: What a normaliser that was fitted to pixels of 0..255 subtracts: their mean, which only black and white images have
#: further out. Pixels less ImageNet's means (caffe) have one around 0, and else the same numbers.
_FITTED_MEANS = (25.0, 230.0)

#: Where 255 ends by a factor that somebody has written down: 1/255, 1/256, 1/128, 1/127.5 and the like.
_ENDS_OF_BYTES = (0.9, 2.1)

#: ImageNet's mean and standard deviation on 0..1.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STDDEV = (0.229, 0.224, 0.225)


#: No image has more pixels on a side; a slice that ends there or later takes everything.
MAX_SIDE = 1_000_000


@dataclass(frozen=True, slots=True)
class FirstArithmetic:
    """y = scale * x + offset, one number per channel of the input; `then` is the operator behind it.

    `divided`: the first of it is one factor for all channels that brings 0..255 to about 0..1 or 0..2. `swapped`: the
    channels are in another order than in the input.
    """

    scale: Channels
    offset: Channels
    then: str
    divided: bool
    swapped: bool

    def __str__(self) -> str:
        divisor = 1 / self.scale[0] if np.ptp(self.scale) == 0 and self.scale[0] else 0.0
        whole = abs(divisor) >= 1 and bool(np.isclose(2 * divisor, round(2 * divisor), rtol=1e-5))
        scaled = f"x / {divisor:.4g}" if whole else f"x * {_text(self.scale)}"
        if np.ptp(self.offset):
            return f"{scaled} + {_text(self.offset)}"
        offset = float(self.offset[0])
        return f"{scaled} {'-' if offset < 0 else '+'} {abs(offset):.4g}" if offset else scaled


def _text(values: Channels) -> str:
    different = np.unique(values.round(6))
    return f"{different[0]:.4g}" if len(different) == 1 else "[" + " ".join(f"{value:.4g}" for value in values) + "]"


def find(proto: onnx.ModelProto, input_name: str, *, channel_axis: int, channels: int) -> FirstArithmetic:
    """Follow the input; an identity if the path starts with something else than arithmetic."""
    return _Walk(GraphView(proto), input_name, channel_axis, channels).run()


def verdict(arithmetic: FirstArithmetic) -> Assumption | None:
    """The normalisation that has to come before the network, or None if the numbers prove nothing."""
    # Divided twice, or multiplied again, the numbers fit no range.
    width = np.abs(255 * arithmetic.scale)
    divided = arithmetic.divided and bool(np.all((width >= _WIDTHS[0]) & (width <= _WIDTHS[1])))
    mode = "none" if divided else _verdict(arithmetic.scale, arithmetic.offset)
    if mode is None or not _is_rgb(arithmetic, 255.0 if mode == "none" else 1.0):
        return None
    range_text = {"none": "0..255", "unit": "0..1", "tf": "-1..1"}[mode]
    return Assumption(mode, "known", f"the model begins with {arithmetic}, so it takes pixels as {range_text}")


def _verdict(scale: Channels, offset: Channels) -> str | None:
    """none for inputs of 0..255, unit for 0..1, tf for -1..1; None if more than one of them makes sense."""
    bytes_begin, bytes_end = offset, 255 * scale + offset
    width = bytes_end - bytes_begin
    if np.all((width >= _WIDTHS[0]) & (width <= _WIDTHS[1])) and np.all(np.abs([bytes_begin, bytes_end]) <= 10):
        # x/127.5 - 1, (x - mean)/stddev: on 0..1 the result would hardly change at all
        lowest, highest = _FITTED_MEANS
        return "none" if np.all((-offset >= lowest * scale) & (-offset <= highest * scale)) else None
    mean_low, mean_high = _MEANS_OF_BYTES
    centred = (-offset >= mean_low) & (-offset <= mean_high)
    if np.all(scale == 1) and np.all(centred):
        return "none"  # x - 123.68
    if np.all((scale >= 100) & (scale <= 300)):
        if np.all(np.abs(offset) <= 0.02 * scale) or np.all(centred):
            return "unit"  # x * 255, and then less a mean
        return "tf" if np.allclose(scale, offset, rtol=0.02) else None  # x * 127.5 + 127.5
    if np.allclose(scale, 2, atol=1e-3) and np.allclose(offset, -1, atol=1e-3):
        return "unit"  # 2 * x - 1
    return "unit" if _is_imagenet(scale, offset) else None


def _is_imagenet(scale: Channels, offset: Channels) -> bool:
    """Whether it is (x - mean) / stddev with ImageNet's numbers for 0..1, in RGB or BGR."""
    mean, stddev = np.array(_IMAGENET_MEAN), np.array(_IMAGENET_STDDEV)
    orders = (slice(None), slice(None, None, -1))
    return len(scale) == len(mean) and any(
        np.allclose(scale, 1 / stddev[order], rtol=0.02) and np.allclose(offset, -(mean / stddev)[order], rtol=0.02)
        for order in orders
    )


def _is_rgb(arithmetic: FirstArithmetic, white: float) -> bool:
    """Whether nothing speaks against RGB: ImageNet's means in the other order, or a swap without them.

    `white`: the largest pixel.
    """
    means = -arithmetic.offset / arithmetic.scale
    imagenet = white * np.array(_IMAGENET_MEAN)
    if len(means) != len(imagenet):
        return not arithmetic.swapped
    in_bgr = np.allclose(means, imagenet[::-1], rtol=0.02)
    return bool(in_bgr == arithmetic.swapped)


class _Walk:
    """The state of one walk: where it is, and the arithmetic so far. `members` are the input's channels in order."""

    def __init__(self, view: GraphView, input_name: str, channel_axis: int, channels: int) -> None:
        self._view = view
        self._value = input_name
        self._axis = channel_axis
        self._scale = np.ones(channels)
        self._offset = np.zeros(channels)
        self._divided = False
        self._order = np.arange(channels)

    def run(self) -> FirstArithmetic:
        while True:
            consumers = self._view.consumers(self._value)
            if self._regrouped(consumers):
                continue
            if len(consumers) != 1 or self._view.is_output(self._value):
                return self._found("a branch" if consumers else "the output")
            node = consumers[0]
            if not self._follow(node):
                return self._found(node.op_type)
            self._value = node.output[0]
            self._divided |= self._divides()

    def _found(self, then: str) -> FirstArithmetic:
        swapped = not np.array_equal(self._order, np.sort(self._order))
        return FirstArithmetic(self._scale, self._offset, then, self._divided, swapped)

    def _divides(self) -> bool:
        lowest, highest = _ENDS_OF_BYTES
        factor = float(self._scale[0])
        return not self._offset.any() and bool(np.all(self._scale == factor)) and lowest <= 255 * factor <= highest

    def _follow(self, node: onnx.NodeProto) -> bool:
        """Take one node into account; False if it is more than arithmetic on channels."""
        kind = node.op_type
        if kind in _TRANSPARENT:
            return bool(node.input[0] == self._value)
        if kind == "Transpose":
            return self._transposed(attribute(node, "perm"))
        if kind in _REGROUPING:
            # Of one channel, every number is scaled in the same way, wherever it lies.
            return len(self._scale) == 1 and bool(node.input[0] == self._value)
        if kind in ("Mul", "Div", "Add", "Sub"):
            return self._arithmetic(node)
        if kind == "BatchNormalization":
            return self._batch_normalisation(node)
        if kind in ("Gather", "Slice"):
            return self._reordered(node)
        return kind == "Concat" and self._repeated(node)

    def _transposed(self, order: object) -> bool:
        if isinstance(order, list | tuple) and self._axis not in order:
            return len(self._scale) == 1  # grey images without an axis of channels
        self._axis = order.index(self._axis) if isinstance(order, list | tuple) else 3 - self._axis
        return True

    def _arithmetic(self, node: onnx.NodeProto) -> bool:
        first = node.input[0] == self._value
        if len(set(node.input)) == 1 or (not first and node.op_type in ("Div", "Sub")):
            return False
        numbers = self._per_channel(self._view.constant(node.input[1 if first else 0]))
        if numbers is None or (node.op_type == "Div" and not numbers.all()):
            return False
        match node.op_type:
            case "Mul":
                self._scale, self._offset = self._scale * numbers, self._offset * numbers
            case "Div":
                self._scale, self._offset = self._scale / numbers, self._offset / numbers
            case "Add":
                self._offset = self._offset + numbers
            case _:
                self._offset = self._offset - numbers
        return True

    def _per_channel(self, constant: npt.NDArray[np.generic] | None) -> Channels | None:
        """A constant as one number per channel; None if it differs within a channel."""
        if constant is None or constant.ndim > 4:
            return None
        aligned = constant.reshape((1,) * (4 - constant.ndim) + constant.shape)
        rest = [size for axis, size in enumerate(aligned.shape) if axis != self._axis]
        if set(rest) != {1} or aligned.shape[self._axis] not in (1, len(self._scale)):
            return None
        return np.broadcast_to(aligned.reshape(-1).astype(np.float64), self._scale.shape)

    def _batch_normalisation(self, node: onnx.NodeProto) -> bool:
        constants = [self._view.constant(name) for name in node.input[1:5]]
        if any(constant is None or constant.size != len(self._scale) for constant in constants):
            return False
        gamma, beta, mean, variance = (np.asarray(constant, np.float64) for constant in constants)
        factor = gamma / np.sqrt(variance + float(str(attribute(node, "epsilon", 1e-5))))
        self._scale, self._offset = self._scale * factor, (self._offset - mean) * factor + beta
        return True

    def _reordered(self, node: onnx.NodeProto) -> bool:
        """RGB to BGR, as an indexing with [2, 1, 0] or with a step of -1."""
        constants = [self._view.constant(name) for name in node.input[1:]]
        arrays = [np.asarray(constant).reshape(-1) for constant in constants if constant is not None]
        if len(arrays) < len(constants):
            return False
        indices = np.arange(len(self._scale))
        chosen = self._gathered(node, arrays) if node.op_type == "Gather" else self._sliced(arrays)
        if chosen is None or sorted(chosen.tolist()) not in (indices.tolist(), (indices - len(indices)).tolist()):
            return False
        self._reorder(chosen)
        return True

    def _reorder(self, chosen: npt.NDArray[np.intp]) -> None:
        self._scale, self._offset, self._order = self._scale[chosen], self._offset[chosen], self._order[chosen]

    def _regrouped(self, consumers: list[onnx.NodeProto]) -> bool:
        """RGB to BGR by taking the channels apart, as Keras 3 does: slices of one channel, and one Concat of them."""
        if len(consumers) != len(self._scale) or len(consumers) == 1:
            return False
        channels = {node.output[0]: self._only_channel(node) for node in consumers if node.op_type == "Slice"}
        joined = [node for name in channels for node in self._view.consumers(name)]
        if None in channels.values() or len(channels) != len(consumers) or not joined:
            return False
        concat = joined[0]
        if any(node is not concat for node in joined) or concat.op_type != "Concat":
            return False
        order = [channels.get(name) for name in concat.input]
        if sorted(index for index in order if index is not None) != list(range(len(self._scale))):
            return False
        self._reorder(np.array(order, np.intp))
        self._value = concat.output[0]
        return bool(attribute(concat, "axis") in (self._axis, self._axis - 4))

    def _only_channel(self, node: onnx.NodeProto) -> int | None:
        """The one channel that a slice takes; None if it takes more or something else."""
        constants = [self._view.constant(name) for name in node.input[1:]]
        if len(constants) < 3 or any(constant is None or np.size(constant) != 1 for constant in constants):
            return None
        start, end, axis = (int(np.asarray(constant).item()) for constant in constants[:3])
        return start if axis % 4 == self._axis and end == start + 1 else None

    def _gathered(self, node: onnx.NodeProto, arrays: list[Array]) -> Array | None:
        return arrays[0] if attribute(node, "axis", 0) in (self._axis, self._axis - 4) else None

    def _sliced(self, arrays: list[Array]) -> Array | None:
        """The order of the channels; None if anything else is cut."""
        if len(arrays) != 4:
            return None
        chosen = np.arange(len(self._scale))
        for start, end, axis, step in zip(*(array.tolist() for array in arrays), strict=True):
            if axis % 4 == self._axis and step == -1:
                chosen = chosen[start : None if end < -len(chosen) else end : -1]
            elif (start, step) != (0, 1) or end < MAX_SIDE:
                return None
        return chosen

    def _repeated(self, node: onnx.NodeProto) -> bool:
        """One grey channel made three."""
        if set(node.input) != {self._value} or len(self._scale) != 1:
            return False
        if attribute(node, "axis") not in (self._axis, self._axis - 4):
            return False
        self._reorder(np.zeros(len(node.input), np.intp))
        return True
