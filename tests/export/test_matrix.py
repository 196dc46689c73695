"""A few of each group of the matrix; `python -m tests.export.matrix` runs all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.matrix import keras_cases, service
from tests.export.matrix.case import Answers, Case, judge
from tests.export.matrix.groups import GROUPS
from tests.support.models import tiny_keras

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]

#: One of each kind of output; the first takes grey images.
OVER_HTTP = ("greyscale", "logits as values", "one sigmoid", "sigmoids")


@pytest.mark.parametrize(
    "case", [case for group in GROUPS.values() for case in group.some()], ids=lambda case: case.name
)
def test_the_answer_is_the_owners_or_the_export_asks(tmp_path: Path, case: Case) -> None:
    """There is no third outcome."""
    verdict = judge(case, tmp_path)
    assert verdict.right, verdict.text


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """An ingest before consumers of the artefacts."""
    with service.serving(tmp_path_factory.mktemp("service")) as answers:
        yield answers


@pytest.mark.parametrize(
    "case",
    [case for case in (*keras_cases.endings(), *keras_cases.labels()) if case.name in OVER_HTTP],
    ids=lambda case: case.name,
)
def test_the_answer_over_http_is_the_owners(tmp_path: Path, case: Case, served: Answers) -> None:
    """To a tensor, and to files of the same pixels."""
    verdict = judge(case, tmp_path, served)
    assert verdict.right, verdict.text
    assert verdict.difference is not None
