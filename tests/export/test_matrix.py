"""A few of each group of the matrix; `python -m tests.export.matrix` runs all of them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.export.matrix import (
    keras_cases,
    notebook_keras,
    once_wrong,
    onnx_cases,
    preprocessing_cases,
    tensorflow_cases,
    unusual_keras,
    unusual_onnx,
    unusual_tensorflow,
)
from tests.export.matrix.case import Case, judge
from tests.support.models import tiny_keras

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]

#: Of the groups of Keras, every so many: each takes a fraction of a second.
STEP = 3


def some() -> Iterator[Case]:
    yield from once_wrong.once_wrong()
    yield from onnx_cases.onnx_files()
    for group in (keras_cases.endings, keras_cases.labels, preprocessing_cases.preprocessing):
        yield from islice(group(), 0, None, STEP)
    yield from islice(tensorflow_cases.keras_2(".h5"), 1, 12, STEP)
    yield from islice(tensorflow_cases.keras_2(".keras"), 0, 12, STEP)
    yield from islice(tensorflow_cases.saved_models(), 1, None, 4)
    yield from unusual_onnx.onnx_files()
    for group in (unusual_keras.endings, unusual_keras.labels, unusual_keras.preprocessing):
        yield from islice(group(), 0, None, STEP)
    yield from islice(notebook_keras.endings(), 0, None, 2 * STEP)
    yield from islice(notebook_keras.preprocessing(), 1, None, 2 * STEP)
    yield from islice(notebook_keras.structures(), 2, 8)
    yield from islice(unusual_tensorflow.keras_2(".h5"), 1, 12, STEP)
    yield from islice(unusual_tensorflow.saved_models(), 2, None, STEP)


@pytest.mark.parametrize("case", list(some()), ids=lambda case: case.name)
def test_the_answer_is_the_owners_or_the_export_asks(tmp_path: Path, case: Case) -> None:
    """There is no third outcome."""
    verdict = judge(case, tmp_path)
    assert verdict.right, verdict.text
