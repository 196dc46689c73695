"""A few of each group of the matrix; `python -m tests.export.matrix` runs all of them."""

from pathlib import Path

import pytest

from tests.export.matrix.case import Case, judge
from tests.export.matrix.groups import GROUPS
from tests.support.models import tiny_keras

pytestmark = [tiny_keras.quiet_keras, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.parametrize(
    "case", [case for group in GROUPS.values() for case in group.some()], ids=lambda case: case.name
)
def test_the_answer_is_the_owners_or_the_export_asks(tmp_path: Path, case: Case) -> None:
    """There is no third outcome."""
    verdict = judge(case, tmp_path)
    assert verdict.right, verdict.text
