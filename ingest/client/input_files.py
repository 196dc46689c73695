"""From what the command names to the list of files: folders, globs, `-`. Opens no file."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from ingest.client.item import STDIN, Key, key
from ingest.images.formats import SUFFIXES

#: Not `.ts`: a folder of TypeScript has thousands of those.
VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mts", ".m2ts")
)


class NothingFoundError(Exception):
    """What the command names does not exist; the message says which."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file, as it was spelled. `error`: a folder that cannot be listed, and why."""

    path: str
    error: str = ""

    @property
    def is_video(self) -> bool:
        return ending(self.path) in VIDEOS


def find(named: list[str], *, videos: bool, without: str = "") -> list[InputFile]:
    """The files, each once, in the order of the command and by name within folders.

    What is named itself is taken whatever its ending; in folders and globs only pictures, videos where asked for, and
    nothing hidden. The folder `without` is passed over. Raises NothingFoundError.
    """
    endings = SUFFIXES | VIDEOS if videos else SUFFIXES
    seen: dict[Key, InputFile] = {}
    for name in named:
        for found in _expand(name, endings, os.path.abspath(without) if without else ""):  # noqa: PTH100
            seen.setdefault(key(found.path), found)
    return list(seen.values())


def ending(path: str) -> str:
    return PurePath(path).suffix.lower()


def _expand(name: str, endings: frozenset[str], without: str) -> Iterator[InputFile]:
    if name == STDIN or os.path.isfile(name):  # noqa: PTH113
        yield InputFile(name if name == STDIN else os.path.normpath(name))
    elif os.path.isdir(name):  # noqa: PTH112
        yield from _walk(name, endings, without)
    elif os.path.lexists(name):
        yield InputFile(os.path.normpath(name), "is neither a file nor a folder")
    else:
        yield from _match(name, endings, without)


def _match(pattern: str, endings: frozenset[str], without: str) -> Iterator[InputFile]:
    """What a glob that the shell has left alone stands for; `**` is any depth."""
    matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    if not matches:
        raise NothingFoundError(f"{pattern}: no such file or folder")
    for match in matches:
        if os.path.isdir(match):  # noqa: PTH112
            yield from _walk(match, endings, without)
        elif ending(match) in endings:
            yield InputFile(os.path.normpath(match))


def _walk(folder: str, endings: frozenset[str], without: str) -> Iterator[InputFile]:
    """The folder's files at any depth. Links to folders are not followed: they may lead in circles."""
    errors: list[OSError] = []
    for parent, folders, files in os.walk(os.path.normpath(folder), onerror=errors.append):
        kept = [each for each in folders if not each.startswith(".")]
        folders[:] = sorted(each for each in kept if os.path.abspath(os.path.join(parent, each)) != without)  # noqa: PTH100, PTH118
        for name in sorted(files):
            if not name.startswith(".") and ending(name) in endings:
                yield InputFile(os.path.normpath(os.path.join(parent, name)))  # noqa: PTH118
    for error in errors:
        yield InputFile(os.path.normpath(error.filename), f"cannot be listed: {error.strerror}")
