"""Recognises a model of Teachable Machine by its layers, if its Keras file comes without the rest of the download."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from export.artefact.description import Assumption
from export.convert.original import Original

FORMULA = "Teachable Machine's models take pixels / 127.5 - 1"

_ASSUMED = Assumption("tf", "assumed", f"the last layers have the names that Teachable Machine gives, and {FORMULA}")

#: The layers behind its MobileNet, with the names that TensorFlow.js gave them when it trained the model.
_LAST: tuple[tuple[str, dict[str, object]], ...] = (
    ("GlobalAveragePooling2D", {"name": "global_average_pooling2d_GlobalAveragePooling2D1"}),
    ("Dense", {"name": "dense_Dense1", "units": 100, "activation": "relu"}),
    ("Dense", {"name": "dense_Dense2", "activation": "softmax", "use_bias": False}),
)


def recognised(original: Original, config: Mapping[str, Any]) -> Original:
    """The model, with Teachable Machine's normalisation and loader if its configuration has those layers."""
    last = list(_layers(config))[-len(_LAST) :]
    found = len(last) == len(_LAST) and all(
        layer.get("class_name") == kind and facts.items() <= layer["config"].items()
        for layer, (kind, facts) in zip(last, _LAST, strict=True)
    )
    return replace(original, preprocess=_ASSUMED, loader="teachable_machine") if found else original


def _layers(layer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The layers in their order, without inputs; a model within the model stands for its own layers."""
    config = layer.get("config")
    if isinstance(config, dict) and isinstance(within := config.get("layers"), list):
        for one in within:
            yield from _layers(one)
    elif isinstance(config, dict) and layer.get("class_name") != "InputLayer":
        yield layer
