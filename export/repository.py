"""Where an artefact lives in a repository laid out as Triton's.  Knows nothing of what is in it.

models/<name>/<version>/model.onnx
"""

import os
from pathlib import Path

from export.errors import OutputRefused

FILE_NAME = "model.onnx"


def path(output: Path, *, name: str, version: int) -> Path:
    return output / name / str(version) / FILE_NAME


def check_writable(target: Path) -> None:
    """Raises OutputRefused where the file could not be written, before any work is done for it."""
    # lexists: a link that points nowhere is in the way as well.
    present = next(folder for folder in target.parents if os.path.lexists(folder) or folder == Path())
    if not present.is_dir():
        raise OutputRefused(f"can't write {target}: {present} is not a folder; choose another --output")
    if not os.access(present, os.W_OK | os.X_OK):
        raise OutputRefused(f"can't write {target}: no permission in {present}; choose another --output")
