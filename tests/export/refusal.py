"""Exports a hostile file, and looks for what it may have done."""

from pathlib import Path

import pytest

from export.__main__ import main


def refused(
    file: Path, folder: Path, capsys: pytest.CaptureFixture[str], *advice: str, labels: str = "names.txt"
) -> None:
    """Status 2 with the advice, nothing written, and no canary."""
    (folder / "names.txt").write_text("one\ntwo\n")
    words = ["--labels", str(folder / labels), "--preprocess", "unit", "--output", str(folder / "models")]
    assert main([str(file), *words]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in advice), error
    assert "Traceback" not in error
    assert not (folder / "models").exists()
    assert not list(folder.parent.rglob("*canary*"))
