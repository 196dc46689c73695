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

Source of caffe, tf and torch: keras.applications.imagenet_utils.preprocess_input.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """`any_channels`: the formula is the same for each channel, so that it holds for grey and RGBA images as well."""

    mean: Triple
    scale: Triple
    bgr: bool = False

    @property
    def any_channels(self) -> bool:
        return not self.bgr and len({*self.mean}) == 1 and len({*self.scale}) == 1

    def for_channels(self, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean and scale, float32 [count]."""
        assert count == len(self.mean) or self.any_channels
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


#: What --preprocess takes, in words for people who know how they loaded their images. `lite` belongs to one network,
#: which brings it along.
MEANINGS: Mapping[str, str] = {
    "unit": "pixels / 255, as ImageDataGenerator(rescale=1/255) and ToTensor() do",
    "tf": "pixels / 127.5 - 1, as mobilenet_v2.preprocess_input does",
    "none": "pixels as they are, 0..255",
    "caffe": "as resnet50.preprocess_input and vgg16.preprocess_input do",
    "torch": "as torchvision's Normalize with ImageNet's numbers, and densenet.preprocess_input, do",
}


def choices_for(channels: int) -> tuple[str, ...]:
    """The normalisations that are defined for images of so many channels."""
    return tuple(name for name in MEANINGS if channels == 3 or NORMALISATIONS[name].any_channels)
