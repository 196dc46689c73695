"""The groups of models of the matrix, and those of each that the suite judges."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from tests.export.matrix import (
    keras_cases,
    notebook_keras,
    once_wrong,
    onnx_cases,
    preprocessing_cases,
    rare_keras,
    tensorflow_cases,
    unusual_keras,
    unusual_onnx,
    unusual_tensorflow,
)
from tests.export.matrix.case import Case

#: All models of a group, or every third: one of Keras takes a fraction of a second.
_ALL = slice(None)
_THIRD = slice(0, None, 3)


@dataclass(frozen=True, slots=True)
class Group:
    """`cases` makes the models, `in_suite` are those that the suite judges."""

    cases: Callable[[], Iterator[Case]]
    in_suite: slice

    def some(self) -> Iterator[Case]:
        """The models for the suite."""
        return islice(self.cases(), self.in_suite.start, self.in_suite.stop, self.in_suite.step)


GROUPS: Mapping[str, Group] = {
    "once-wrong": Group(once_wrong.once_wrong, _ALL),
    "keras3": Group(keras_cases.endings, _THIRD),
    "labels": Group(keras_cases.labels, _THIRD),
    "preprocessing": Group(preprocessing_cases.preprocessing, _THIRD),
    "keras2-h5": Group(partial(tensorflow_cases.keras_2, ".h5"), slice(1, 12, 3)),
    "keras2-keras": Group(partial(tensorflow_cases.keras_2, ".keras"), slice(0, 12, 3)),
    "savedmodel": Group(tensorflow_cases.saved_models, slice(1, None, 4)),
    "onnx": Group(onnx_cases.onnx_files, _ALL),
    "notebook-endings": Group(notebook_keras.endings, slice(0, None, 6)),
    "notebook-preprocessing": Group(notebook_keras.preprocessing, slice(1, None, 6)),
    "notebook-structures": Group(notebook_keras.structures, slice(2, 8)),
    "unusual-keras3": Group(unusual_keras.endings, _THIRD),
    "unusual-labels": Group(unusual_keras.labels, _THIRD),
    "unusual-preprocessing": Group(unusual_keras.preprocessing, _THIRD),
    "unusual-keras2-h5": Group(partial(unusual_tensorflow.keras_2, ".h5"), slice(1, 12, 3)),
    "unusual-keras2-keras": Group(partial(unusual_tensorflow.keras_2, ".keras"), slice(0)),
    "unusual-savedmodel": Group(unusual_tensorflow.saved_models, slice(2, None, 3)),
    "unusual-onnx": Group(unusual_onnx.onnx_files, _ALL),
    "rare-heads": Group(rare_keras.heads, slice(0, None, 10)),
    "rare-bodies": Group(rare_keras.bodies, slice(0)),
}
