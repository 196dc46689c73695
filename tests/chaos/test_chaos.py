"""The short form of `make chaos`: half a minute of kills, pauses, outages and bad networks under load."""

import asyncio
import gc
from pathlib import Path

import pytest

from tests.chaos.drive import Plan, drive
from tests.chaos.report import Report, lines


# A client that hangs up while it connects loses its socket between asyncio and anyio: the collector closes it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.alone
def test_nothing_is_lost_doubled_or_wrong_whatever_is_killed(tmp_path: Path) -> None:
    """Each accepted image has one outcome, each response is right, and each refusal has a reason.

    Only a power failure may take what was accepted in the second before it.
    """
    report = asyncio.run(drive(Plan(tmp_path, seconds=28, seed=1)))
    gc.collect()
    print("\n".join(lines(report)))  # noqa: T201 (pytest shows it where the test fails)
    assert report.violations() == []
    assert report.done("kill a consumer") >= 10
    assert report.done("kill Redis") >= 2
    assert report.done("kill an ingest") >= 2
    for kind in ("kill Redis on a busy disk", "power failure", "fill the disk"):
        assert report.done(kind) >= 1
    _assert_it_was_worth_something(report)


def _assert_it_was_worth_something(report: Report) -> None:
    """The load was answered, overflowed and was interrupted: a run in which nothing happens proves nothing."""
    assert report.ledger.count("right") > 300
    assert report.direct_right() > 30
    assert report.ledger.codes("refused")["overloaded"] > 0
    assert report.ledger.count("broken") > 0
