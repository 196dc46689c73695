"""The short form of `python -m tests.chaos.webhooks`, which `make chaos` runs with 50 kills."""

import asyncio
from pathlib import Path

from tests.chaos.webhooks import run


def test_no_webhook_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    """Each accepted image is delivered, signed, and once for each webhook-id."""
    report = asyncio.run(run(tmp_path, kills=6))
    assert report.good, report.line()
    assert report.kills == {"sender": 6, "consumer": 1, "ingest": 1}
    assert len(report.accepted) > 20
