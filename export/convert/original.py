"""The model as its owner has it: what every source hands to the conversion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from export.artefact.description import Assumption, Precision, Resize
from export.convert.output_kind import Loss
from export.errors import BadArgument, NotAClassifier, SizeUnclear

#: nhw: grey images without an axis of channels, as keras.datasets.mnist has them.
Layout = Literal["nhwc", "nchw", "nhw"]

#: The element types of an image input, and the types of NumPy that they are.
Element = Literal["float32", "float16", "uint8"]

CHANNELS = (1, 3, 4)

#: For a file with a fixed batch.
EXPORT_AGAIN = (
    "export it again with a dynamic batch (PyTorch: torch.onnx.export(..., dynamo=False,"
    ' dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}))'
)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The model's own input: [N,height,width,channels], [N,channels,height,width] or [N,height,width]."""

    height: int
    width: int
    channels: int
    layout: Layout
    element: Element

    @property
    def channel_axis(self) -> int:
        return 1 if self.layout == "nchw" else 3

    @property
    def shape(self) -> tuple[int | None, ...]:
        """With an open batch."""
        size = (self.height, self.width)
        return {
            "nhwc": (None, *size, self.channels), "nchw": (None, self.channels, *size), "nhw": (None, *size)
        }[self.layout]  # fmt: skip

    def arranged(self, images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """[N,H,W,C] in the model's own layout and type."""
        ordered = {"nhwc": images, "nchw": images.transpose(0, 3, 1, 2), "nhw": images[..., 0]}[self.layout]
        return np.ascontiguousarray(ordered, self.element)


@dataclass(frozen=True, slots=True)
class BareGraph:
    """The model alone in ONNX: its own input and output, without normalisation and head."""

    proto: onnx.ModelProto = field(repr=False)
    input_name: str
    output_name: str


@dataclass(frozen=True, slots=True)
class Original:
    """A model as its owner calls it.

    predict: images as `input.arranged` gives them -> float32 [N, ...]. to_onnx: the bare graph, in the given opset.
    reference: whose answers `predict` gives, for people. preprocess: known before the graph is looked at. loss: what it
    was trained with, if the file says so. single: the file takes one image at a time. labels: those in the file.
    load_image: a file as the framework's own loader reads and resizes it, float32 [H,W,C] of 0..255. loader: the name
    of the one that the training had, if the kind of file tells.
    """

    input: ImageInput
    predict: Callable[[npt.NDArray[np.generic]], Floats]
    to_onnx: Callable[[int], BareGraph]
    reference: str
    source: Mapping[str, str]
    precision: Precision = "fp32"
    preprocess: Assumption | None = None
    loss: Loss | None = None
    single: bool = False
    labels: tuple[str, ...] | None = None
    load_image: Callable[[Path, Resize], Floats] | None = None
    loader: str | None = None


def image_input(
    shape: tuple[int | None, ...],
    element: str,
    *,
    layout: Layout | None,
    size: tuple[int, int] | None,
    usual: Layout | None = None,
) -> ImageInput:
    """The input of a model from its shape, None for an open dimension. Raises NotAClassifier, BadArgument.

    `usual` is the framework's own layout, which decides where both would fit.
    """
    if len(shape) not in (3, 4) or element not in ("float32", "float16", "uint8"):
        raise NotAClassifier(
            f"the model does not take images: its input is {element} {text(shape)}, and [N,height,width,channels],"
            " [N,channels,height,width] or, for grey images, [N,height,width] of float32, float16 or uint8 is needed"
            f"{_in_front(shape, element)}"
        )
    if len(shape) == 3:
        return ImageInput(*_size(shape[1:], size), 1, "nhw", element)  # type: ignore[arg-type]  # checked above
    chosen = _layout(shape, layout, usual)
    channels = shape[1 if chosen == "nchw" else 3]
    height, width = _size(shape[2:4] if chosen == "nchw" else shape[1:3], size)
    return ImageInput(height, width, channels or 3, chosen, element)  # type: ignore[arg-type]  # checked above


def _in_front(shape: tuple[int | None, ...], element: str) -> str:
    """What makes a model of images out of one that takes rows of numbers, or another type of numbers."""
    if len(shape) == 2 and element == "float32":
        layer = "keras.Sequential([keras.Input((height, width, channels)), keras.layers.Flatten(), model]).save(...)"
        return f". If it takes the pixels in one row, put a layer in front of it: {layer}"
    if len(shape) in (3, 4) and element.startswith(("int", "uint", "float")):
        cast = f"keras.Model(x, model(keras.ops.cast(x, '{element}'))).save(...)"
        return f". Numbers of another type are cast within the model: x = keras.Input(..., dtype='uint8'); {cast}"
    return ""


def _layout(shape: tuple[int | None, ...], given: Layout | None, usual: Layout | None) -> Layout:
    axes: tuple[tuple[Layout, int], ...] = (("nhwc", 3), ("nchw", 1))
    exact = [name for name, axis in axes if shape[axis] in CHANNELS]
    open_ones = [name for name, axis in axes if shape[axis] is None]
    if given is not None:
        if given in exact or given in open_ones:
            return given
        raise BadArgument(f"the model's input is {text(shape)}, which does not fit --layout {given}")
    if not exact and not open_ones:
        raise NotAClassifier(
            f"the model does not take images: its input is {text(shape)}, and 1 (grey), 3 (RGB) or 4 (RGBA) channels"
            " are needed"
        )
    colour = [name for name, axis in axes if shape[axis] == 3]
    candidates = [usual] if usual in exact else colour or exact or open_ones
    if len(candidates) == 1:
        return candidates[0]
    raise BadArgument(f"the model's input is {text(shape)}: say with --layout nhwc|nchw where its channels are")


def _size(fixed: tuple[int | None, ...], given: tuple[int, int] | None) -> tuple[int, int]:
    height, width = given or fixed
    if height is None or width is None:
        raise SizeUnclear("the model takes images of any size: pass --size HxW of its training, such as --size 224")
    if any(own not in (None, chosen) for own, chosen in zip(fixed, (height, width), strict=True)):
        raise BadArgument(f"--size {height}x{width} does not fit the model's input, which is {fixed[0]}x{fixed[1]}")
    return height, width


def text(shape: tuple[int | None, ...]) -> str:
    return "[" + ",".join("any" if size is None else str(size) for size in shape) + "]"
