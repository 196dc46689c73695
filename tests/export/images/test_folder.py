"""Images of a user's folder are read as images, whatever else a file may be."""

import os
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, UnidentifiedImageError

from export.images import folder


def test_an_image_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow by itself hands PostScript, whatever its suffix, to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'canary'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    trap = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "trap.jpg").write_bytes(trap)
    with pytest.raises(UnidentifiedImageError):
        folder.read(tmp_path / "trap.jpg").load()
    assert not (tmp_path / "canary").exists()
