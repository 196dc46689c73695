"""What every source of a classifier hands to the conversion.  Knows nothing of where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import keras

#: How the model's last numbers become probabilities.
#: as-is: they are; softmax: they are logits of N classes; sigmoid: one logit, of the second of two
#: classes; complement: one probability, of the second of two classes.
Head = Literal["as-is", "softmax", "sigmoid", "complement"]


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
