"""The networks that can be asked for by name, with what each wants to see.

A table, so that a misspelt name is refused at once; the tests hold it against keras.applications.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from export.errors import BadArgument


@dataclass(frozen=True, slots=True)
class Architecture:
    """`function` is the network's name in keras.applications, `module` where its preprocess_input is.

    `resize` and `shorter_side` (pixels) are what its published accuracy was measured with.
    """

    name: str
    function: str
    module: str
    size: int
    preprocess: str
    resize: Literal["squash", "crop"] = "squash"
    shorter_side: int | None = None


LITE0 = Architecture(
    name="efficientnet-lite0",
    function="",
    module="",
    size=224,
    preprocess="lite",
    resize="crop",
    shorter_side=256,
)

#: module of keras.applications, its normalisation, and its networks with their input sizes.
_FAMILIES: tuple[tuple[str, str, Mapping[str, int]], ...] = (
    (
        "convnext",
        "none",
        dict.fromkeys(("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"), 224),
    ),
    ("densenet", "torch", dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), 224)),
    (
        "efficientnet",
        "none",
        {
            "EfficientNetB0": 224,
            "EfficientNetB1": 240,
            "EfficientNetB2": 260,
            "EfficientNetB3": 300,
            "EfficientNetB4": 380,
            "EfficientNetB5": 456,
            "EfficientNetB6": 528,
            "EfficientNetB7": 600,
        },
    ),
    (
        "efficientnet_v2",
        "none",
        {
            "EfficientNetV2B0": 224,
            "EfficientNetV2B1": 240,
            "EfficientNetV2B2": 260,
            "EfficientNetV2B3": 300,
            "EfficientNetV2S": 384,
            "EfficientNetV2M": 480,
            "EfficientNetV2L": 480,
        },
    ),
    ("inception_resnet_v2", "tf", {"InceptionResNetV2": 299}),
    ("inception_v3", "tf", {"InceptionV3": 299}),
    ("mobilenet", "tf", {"MobileNet": 224}),
    ("mobilenet_v2", "tf", {"MobileNetV2": 224}),
    ("mobilenet_v3", "none", {"MobileNetV3Small": 224, "MobileNetV3Large": 224}),
    ("nasnet", "tf", {"NASNetMobile": 224, "NASNetLarge": 331}),
    ("resnet", "caffe", dict.fromkeys(("ResNet50", "ResNet101", "ResNet152"), 224)),
    ("resnet_v2", "tf", dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), 224)),
    ("vgg16", "caffe", {"VGG16": 224}),
    ("vgg19", "caffe", {"VGG19": 224}),
    ("xception", "tf", {"Xception": 299}),
)


def _key(name: str) -> str:
    """mobilenet_v2, MobileNet-V2 and mobilenetv2 are one network."""
    return re.sub(r"[-_ .]", "", name).lower()


ARCHITECTURES: Mapping[str, Architecture] = {
    _key(LITE0.name): LITE0,
    **{
        _key(function): Architecture(_key(function), function, module, size, preprocess)
        for module, preprocess, networks in _FAMILIES
        for function, size in networks.items()
    },
}


def find(name: str) -> Architecture:
    """Raises BadArgument, naming what comes near, for a name that is not in the table."""
    try:
        return ARCHITECTURES[_key(name)]
    except KeyError:
        names = sorted(architecture.name for architecture in ARCHITECTURES.values())
        near = difflib.get_close_matches(_key(name), names, n=3)
        file = "" if near else f", nor such a file (write its whole name, such as {name}.keras)"
        raise BadArgument(f"there is no architecture {name!r}{file}; try one of: {', '.join(near or names)}") from None


def known(name: str) -> bool:
    """Whether it is the name of an architecture."""
    return _key(name) in ARCHITECTURES
