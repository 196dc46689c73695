"""What every source of a classifier hands to the conversion."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras


@dataclass(frozen=True, slots=True)
class Network:
    """A Keras model that takes normalised float32 [N,height,width,3].

    `preprocess` names the normalisation that it was trained with; `source` is for people.
    """

    model: keras.Model
    height: int
    width: int
    preprocess: str
    source: Mapping[str, str]
