"""How pixels 0..255 become what a network was trained on.

Every normalisation is one formula, y = (x - mean) / scale for each channel, after an optional swap
from RGB to BGR:

| mode  | channels | mean                    | scale                 | used by                         |
| ----- | -------- | ----------------------- | --------------------- | ------------------------------- |
| caffe | BGR      | 103.939 116.779 123.68  | 1                     | ResNet, VGG                     |
| tf    | any      | 127.5                   | 127.5                 | ResNetV2, MobileNet, Inception  |
| torch | RGB      | 255 (.485 .456 .406)    | 255 (.229 .224 .225)  | DenseNet, torchvision           |
| unit  | any      | 0                       | 255                   | ImageDataGenerator(rescale=1/255) |
| lite  | RGB      | 127                     | 128                   | EfficientNet-Lite               |
| none  | any      | 0                       | 1                     | networks that normalise inside  |

A user may state other numbers, as MEAN/STD (see `own_numbers`), and with `:bgr` behind either, that the channels were
swapped before: cv2.imread gives them so.

Source of caffe, tf and torch: keras.applications.imagenet_utils.preprocess_input.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

#: One number for each channel, or one for all.
Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """`bgr`: the channels are swapped first, so that the numbers are in the order of BGR."""

    mean: Numbers
    scale: Numbers
    bgr: bool = False

    def fits(self, channels: int) -> bool:
        """If the formula is the same for each channel, it holds for grey and RGBA images as well."""
        same = len({*self.mean}) == 1 and len({*self.scale}) == 1
        return (channels == 3 or not self.bgr) and (same or channels == max(len(self.mean), len(self.scale)))

    def for_channels(self, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean and scale, float32 [count]."""
        assert self.fits(count)
        return tuple(np.resize(np.array(values, np.float32), count) for values in (self.mean, self.scale))  # type: ignore[return-value]

    def applied(self, images: npt.NDArray[np.number]) -> npt.NDArray[np.float32]:
        """The formula for pixels [...,channels], computed in NumPy."""
        mean, scale = self.for_channels(images.shape[-1])
        x = (images[..., ::-1] if self.bgr else images).astype(np.float32)
        return np.asarray((x - mean) / scale, np.float32)


NORMALISATIONS: Mapping[str, Normalisation] = {
    "caffe": Normalisation((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "tf": Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "torch": Normalisation((255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)),
    "unit": Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "lite": Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "none": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


#: What --preprocess takes, in words for people who know how they loaded their images.
MEANINGS: Mapping[str, str] = {
    "unit": "pixels / 255, as ImageDataGenerator(rescale=1/255) and ToTensor() do",
    "tf": "pixels / 127.5 - 1, as mobilenet_v2.preprocess_input does",
    "none": "pixels as they are, 0..255",
    "caffe": "as resnet50.preprocess_input and vgg16.preprocess_input do",
    "torch": "as torchvision's Normalize with ImageNet's numbers, and densenet.preprocess_input, do",
}

#: `lite` belongs to one network, and is offered for that one only.
LITE_MEANING = "(pixels - 127) / 128, as EfficientNet-Lite's training did"


#: What it takes instead of a name, and an explanation.
OWN_NUMBERS = "MEAN/STD"
OWN_NUMBERS_MEANING = (
    "(x - MEAN) / STD with the numbers of your own training, such as 0.1307/0.3081 or"
    " 0.4914,0.4822,0.4465/0.247,0.2435,0.2616; for pixels of 0..1 or, if STD is above 1, of 0..255"
)


#: Behind a name or numbers: pixels were in the order of BGR.
BGR = ":bgr"
BGR_MEANING = "add it to a name if cv2.imread read the images, and nothing changed their BGR to RGB"


def by_name(text: str) -> Normalisation:
    """The normalisation of a name, or with own numbers; raises ValueError."""
    name = text.removesuffix(BGR)
    found = NORMALISATIONS[name] if name in NORMALISATIONS else own_numbers(name)
    if name == text:
        return found
    if found.bgr:
        raise ValueError(f"{name} takes BGR already")
    return replace(found, bgr=True)


def own_numbers(text: str) -> Normalisation:
    """MEAN/STD, each one number, or one for each channel with commas in between. Raises ValueError.

    They are for pixels of 0..1, as Normalize of torchvision takes them, unless a STD is above 1.
    """
    parts = [tuple(float(number) for number in part.split(",")) for part in text.split("/")]
    if len(parts) != 2 or not {len(part) for part in parts} <= {1, max(map(len, parts))}:
        raise ValueError(f"it is not of the form {OWN_NUMBERS}")
    mean, scale = parts
    if not all(map(math.isfinite, mean + scale)) or min(scale) <= 0:
        raise ValueError("a number is not finite, or a STD is not above 0")
    if mean == (1.0,):
        raise ValueError("a MEAN of 1 is no mean but a formula, such as 1/255")
    per_unit = 1.0 if max(scale) > 1 else 255.0
    return Normalisation(tuple(number * per_unit for number in mean), tuple(number * per_unit for number in scale))


def choices_for(channels: int) -> tuple[str, ...]:
    """The names of the normalisations that are defined for images of so many channels."""
    return tuple(name for name in MEANINGS if NORMALISATIONS[name].fits(channels))
