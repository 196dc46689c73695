"""A part of the measurement of releases; tests/ingest/dispatch/test_release.py has the others."""

from pathlib import Path

import pytest

from bench.release import hot_change, report, serving


def test_no_request_fails_while_a_consumer_changes_its_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a broken file, which is refused, to a right one, and back; each response names the version that made it."""
    with serving(tmp_path, "change") as (processes, _):
        load = hot_change(processes, tmp_path, clients=2)
    assert load.failures == []
    assert load.versions.keys() == {"1", "2"}
    assert report("hot change", load) == 0
    assert "0 failed; version 1: " in capsys.readouterr().out
