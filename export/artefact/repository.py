"""Where an artefact lives in a repository laid out as Triton's.

models/<name>/<version>/model.onnx
"""

import os
from pathlib import Path

from export.errors import OutputRefused, UnreadableFile

FILE_NAME = "model.onnx"


def path(output: Path, *, name: str, version: int) -> Path:
    return output / name / str(version) / FILE_NAME


def versions(output: Path, *, name: str) -> list[int]:
    """The numbers of all versions, in no order."""
    return [int(folder.name) for folder in (output / name).glob("*") if folder.name.isdecimal()]


def next_version(output: Path, *, name: str) -> int:
    """One more than the highest that is there, or 1."""
    return max(versions(output, name=name), default=0) + 1


def newest(output: Path, *, name: str) -> Path | None:
    """The artefact of the highest version, if there is one."""
    version = next_version(output, name=name) - 1
    file = path(output, name=name, version=version)
    return file if file.is_file() else None


def is_newest_of_several(file: Path) -> bool:
    """Whether this artefact has the highest version, and is not the only one."""
    versions = [
        int(one.parent.name) for one in file.parent.parent.glob(f"*/{FILE_NAME}") if one.parent.name.isdecimal()
    ]
    return len(versions) > 1 and file.parent.name == str(max(versions))


def find(given: Path) -> Path:
    """The file of an artefact that was named by itself or by its folder; raises UnreadableFile."""
    if given.is_file():
        return given
    if (given / FILE_NAME).is_file():
        return given / FILE_NAME
    within = ", ".join(sorted(str(path.parent) for path in given.glob(f"*/{FILE_NAME}"))) or "none"
    raise UnreadableFile(f"there is no {given / FILE_NAME}; name the artefact's file or its folder (in it: {within})")


def around(file: Path) -> Path | None:
    """The repository that an artefact's file lies in, or None where its place is not of that layout."""
    in_place = file.name == FILE_NAME and file.parent.name.isdecimal()
    return file.parent.parent.parent if in_place else None


def name_around(file: Path) -> str | None:
    """The name that an artefact's place in such a repository gives it."""
    return None if around(file) is None else file.absolute().parent.parent.name


def check_free(target: Path, *, force: bool) -> None:
    """Raises OutputRefused where the artefact is there already or can't be written."""
    if target.exists() and not force:
        model = target.parent.parent
        raise OutputRefused(
            f"{target} is there already: --version {next_version(model.parent, name=model.name)} writes another"
            " beside it, --force replaces it, --if-missing leaves it"
        )
    check_writable(target)


def check_writable(target: Path) -> None:
    """Raises OutputRefused where the file could not be written, before any work is done for it."""
    # lexists: a link that points nowhere is in the way as well.
    present = next(folder for folder in target.parents if os.path.lexists(folder) or folder == Path())
    if not present.is_dir():
        raise OutputRefused(f"can't write {target}: {present} is not a folder; choose another --output")
    if not os.access(present, os.W_OK | os.X_OK):
        raise OutputRefused(f"can't write {target}: no permission in {present}; choose another --output")
