"""What is installed: the release of Sluice that runs, and whether the packages of an extra can be used."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

#: Packages report a wrong version by exceptions of their own.
_IMPORT: Final = """
import sys
try:
    import {modules}
except Exception as error:
    sys.exit(str(error) or type(error).__name__)
"""


def as_typed(program: Path) -> str:
    """The path of a program as it is typed in this folder."""
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)


def own_version() -> str:
    """The release of Sluice that runs, as 0.1.0."""
    try:
        return version("sluice-serving")
    except PackageNotFoundError:  # run from the sources
        return "unknown"


def refuse_packages(modules: Sequence[str], extra: str) -> str:
    """Why one of the modules cannot be imported, and what to install. Empty if all can.

    An installed package may be unusable too: the installation of another has replaced a version that it needs. A
    process of its own imports them, so that the caller, which may be the parent of several workers, stays small.
    """
    tried = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(modules=", ".join(modules))], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return ""
    why = " ".join(tried.stderr.split()).partition(". ")[0].rstrip(".") or "the import ends the process"
    return (
        f"{why}. Install what is needed with: {as_typed(Path(sys.executable))} -m pip install 'sluice-serving[{extra}]'"
    )
