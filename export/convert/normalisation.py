"""How pixels 0..255 become what a network was trained on.

Every normalisation is one formula, y = (x - mean) / scale for each channel, after an optional swap
from RGB to BGR:

| mode  | channels | mean                    | scale                 | used by                         |
| ----- | -------- | ----------------------- | --------------------- | ------------------------------- |
| caffe | BGR      | 103.939 116.779 123.68  | 1                     | ResNet, VGG                     |
| tf    | RGB      | 127.5                   | 127.5                 | ResNetV2, MobileNet, Inception  |
| torch | RGB      | 255 (.485 .456 .406)    | 255 (.229 .224 .225)  | DenseNet                        |
| unit  | RGB      | 0                       | 255                   | many a network of one's own     |
| lite  | RGB      | 127                     | 128                   | EfficientNet-Lite               |
| none  | RGB      | 0                       | 1                     | networks that normalise inside  |

Source of caffe, tf and torch: keras.applications.imagenet_utils.preprocess_input.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Normalisation:
    mean: Triple
    scale: Triple
    bgr: bool = False

    def applied(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The formula for pixels [...,3], computed in NumPy."""
        x = (images[..., ::-1] if self.bgr else images).astype(np.float32)
        return np.asarray((x - np.array(self.mean, np.float32)) / np.array(self.scale, np.float32), np.float32)


NORMALISATIONS: Mapping[str, Normalisation] = {
    "caffe": Normalisation((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "tf": Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "torch": Normalisation((255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)),
    "unit": Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "lite": Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "none": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

#: What --preprocess takes. `lite` belongs to one network, which brings it along.
CHOICES = ("caffe", "tf", "torch", "unit", "none")
