"""Finds the files that the command names: files, folders, globs, and `-` for standard input."""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from ingest.client.item import STDIN, Key, key
from ingest.images.formats import SUFFIXES

#: Without `.ts`, which is also the suffix of TypeScript.
VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mts", ".m2ts")
)


class NothingFoundError(Exception):
    """A path of the command matches nothing; the message names it."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file, spelled as it was found. `error`: why a folder cannot be listed."""

    path: str
    error: str = ""

    @property
    def is_video(self) -> bool:
        return suffix(self.path) in VIDEOS


def find(named: list[str], *, videos: bool, without: str = "", ignored: set[str] | None = None) -> list[InputFile]:
    """The files, each once, in the order of the command and by name within folders.

    A file that is named is used whatever its suffix. Folders and globs yield images, and videos if `videos` is set, but
    no hidden files. Files of other suffixes are added to `ignored`. The folder `without` is skipped. Raises
    NothingFoundError.
    """
    wanted = _Wanted(SUFFIXES | VIDEOS if videos else SUFFIXES, set() if ignored is None else ignored)
    seen: dict[Key, InputFile] = {}
    for name in named:
        for found in _expand(name, wanted, os.path.abspath(without) if without else ""):  # noqa: PTH100
            seen.setdefault(key(found.path), found)
    return list(seen.values())


def ignored_by_suffix(ignored: set[str]) -> str:
    """Which files were ignored, for people; empty if none were."""
    if not ignored:
        return ""
    counts = Counter(map(suffix, sorted(ignored)))
    kinds = ", ".join(f"{count:,} {kind or 'without a suffix'}" for kind, count in counts.most_common())
    videos = " (--every includes videos)" if VIDEOS & counts.keys() else ""
    files = "1 file that is not an image" if len(ignored) == 1 else f"{len(ignored):,} files that are not images"
    return f"ignored {files}: {kinds}{videos}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The suffixes that are wanted, and the paths of files with others."""

    suffixes: frozenset[str]
    ignored: set[str]

    def has(self, path: str) -> bool:
        if suffix(path) in self.suffixes:
            return True
        self.ignored.add(os.path.normpath(path))
        return False


def suffix(path: str) -> str:
    return PurePath(path).suffix.lower()


def _expand(name: str, wanted: _Wanted, without: str) -> Iterator[InputFile]:
    if name == STDIN or os.path.isfile(name):  # noqa: PTH113
        yield InputFile(name if name == STDIN else os.path.normpath(name))
    elif os.path.isdir(name):  # noqa: PTH112
        yield from _walk(name, wanted, without)
    elif os.path.lexists(name):
        yield InputFile(os.path.normpath(name), "is neither a file nor a folder")
    else:
        yield from _match(name, wanted, without)


def _match(pattern: str, wanted: _Wanted, without: str) -> Iterator[InputFile]:
    """Expands a glob that the shell has not expanded; `**` is any depth."""
    matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207
    if not matches:
        raise NothingFoundError(f"{pattern}: no such file or folder")
    for match in matches:
        if os.path.isdir(match):  # noqa: PTH112
            yield from _walk(match, wanted, without)
        elif wanted.has(match):
            yield InputFile(os.path.normpath(match))


def _walk(folder: str, wanted: _Wanted, without: str) -> Iterator[InputFile]:
    """The folder's files at any depth. Links to folders are not followed, because they may form a cycle."""
    errors: list[OSError] = []
    for parent, folders, files in os.walk(os.path.normpath(folder), onerror=errors.append):
        kept = [each for each in folders if not each.startswith(".")]
        folders[:] = sorted(each for each in kept if os.path.abspath(os.path.join(parent, each)) != without)  # noqa: PTH100, PTH118
        for name in sorted(files):
            if not name.startswith(".") and wanted.has(os.path.join(parent, name)):  # noqa: PTH118
                yield InputFile(os.path.normpath(os.path.join(parent, name)))  # noqa: PTH118
    for error in errors:
        yield InputFile(os.path.normpath(error.filename), f"cannot be listed: {error.strerror}")
