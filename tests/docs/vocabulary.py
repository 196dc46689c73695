"""Finds the retired words of docs/glossary.md in names, comments, messages and documents.

`python -m tests.docs.vocabulary ingest consumers` checks two folders; without a folder, all files of the repository.
"""

import argparse
import functools
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.documents import ROOT, rows

Kind = Literal["name", "text"]

#: They have to spell the retired words.
EXEMPT = frozenset(
    {
        "docs/glossary.md",
        "tests/docs/vocabulary.py",
        "tests/docs/test_vocabulary.py",
        "tests/docs/test_prose.py",
        "tests/docs/prose.py",
    }
)

_TEXT_SUFFIXES = frozenset({".md", ".html", ".css", ".yaml", ".yml", ".toml", ".conf", ".env", ".json", ""})
_BINARY_NAMES = frozenset({"LICENSE", "py.typed"})

_CODE = {
    ".js": re.compile(r"(?P<text>//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|'[^'\n]*'|`[^`]*`)|(?P<name>[A-Za-z_$][\w$]*)", re.S),
    ".lua": re.compile(r"(?P<text>--[^\n]*|\"[^\"\n]*\"|'[^'\n]*')|(?P<name>[A-Za-z_]\w*)"),
}


@dataclass(frozen=True, slots=True)
class Retired:
    """One row of the glossary's table."""

    words: tuple[str, ...]
    use: str
    kinds: frozenset[Kind]
    allowed: tuple[str, ...]

    def found_in(self, spaced: str) -> list[re.Match[str]]:
        """Matches in text that `_spaced` returned; nothing inside of an allowed phrase."""
        for phrase in self.allowed:
            spaced = _pattern(phrase).sub(lambda match: "." * len(match[0]), spaced)
        return [match for word in self.words for match in _pattern(word).finditer(spaced)]


@dataclass(frozen=True, slots=True)
class Finding:
    """A retired word, and where it stands."""

    path: str
    line: int
    word: str
    use: str
    context: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: '{self.word}' in {self.context!r}; use {self.use}"


@functools.cache
def _pattern(words: str) -> re.Pattern[str]:
    """The words in a row, in singular or plural."""
    joined = r"\s+".join(map(re.escape, words.split()))
    return re.compile(rf"\b{joined}(?:s|es)?\b")


@functools.cache
def retired() -> tuple[Retired, ...]:
    """The table of the glossary."""
    scopes: dict[str, frozenset[Kind]] = {
        "everywhere": frozenset({"name", "text"}),
        "names": frozenset({"name"}),
        "text": frozenset({"text"}),
    }
    return tuple(
        Retired(_listed(words), use, scopes[scope], _listed(allowed))
        for words, use, scope, allowed in rows("docs/glossary.md", "retired", "use", "in", "except")
    )


def _listed(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(",") if word.strip())


def check_text(path: str, text: str) -> Iterator[Finding]:
    """All findings in a file with this content."""
    for match, rule in _matches("name", _spaced(path)):
        yield Finding(path, 1, match[0], rule.use, "the file's name")
    for line, kind, piece in _pieces(path, text):
        spaced = _spaced(piece)
        for match, rule in _matches(kind, spaced):
            offset = spaced.count("\n", 0, match.start())
            yield Finding(path, line + offset, match[0], rule.use, piece.splitlines()[offset].strip()[:80])


def _matches(kind: Kind, spaced: str) -> Iterator[tuple[re.Match[str], Retired]]:
    if not _suspect(kind).search(spaced):
        return
    for rule in retired():
        for match in rule.found_in(spaced) if kind in rule.kinds else ():
            yield match, rule


@functools.cache
def _suspect(kind: Kind) -> re.Pattern[str]:
    """All words at once, which is faster for the many pieces that have none."""
    return re.compile(
        "|".join(_pattern(word).pattern for rule in retired() if kind in rule.kinds for word in rule.words)
    )


def _spaced(text: str) -> str:
    """Lower case, with identifiers taken apart: `GpuLease` and `gpu_lease` become `gpu lease`. Line breaks stay."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.sub(r"[_\-/.]", " ", apart).lower()


def _pieces(path: str, text: str) -> Iterable[tuple[int, Kind, str]]:
    """Names and texts of a file, each with the line where it begins."""
    match Path(path).suffix:
        case ".py":
            return _of_python(text)
        case ".js" | ".lua" as suffix:
            return _of_code(_CODE[suffix], text)
        case ".html" | ".md":
            return [(1, "text", re.sub("</?picture>", "", text))]
        case _:
            return [(1, "text", text)]


def _of_python(text: str) -> Iterator[tuple[int, Kind, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            kind: Kind = "text" if token.string.startswith("test_") else "name"  # a test's name is a sentence
            yield token.start[0], kind, token.string
        elif token.type in {tokenize.STRING, tokenize.COMMENT}:
            yield token.start[0], "text", token.string
            if re.fullmatch(r"[\"'][A-Za-z]+(?:[_-][A-Za-z]+)+[\"']", token.string):
                yield token.start[0], "name", token.string


def _of_code(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, Kind, str]]:
    for match in pattern.finditer(text):
        kind: Kind = "name" if match.lastgroup == "name" else "text"
        yield text.count("\n", 0, match.start()) + 1, kind, match[0]


def files(folders: Sequence[str]) -> list[str]:
    """The repository's text files below these folders, or all; what git ignores is left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    listed = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return sorted({name for name in listed if _is_checked(name)})


def _is_checked(name: str) -> bool:
    path = ROOT / name
    known = path.suffix in {".py", *_CODE, *_TEXT_SUFFIXES}
    return name not in EXEMPT and path.name not in _BINARY_NAMES and known and path.is_file()


def check(folders: Sequence[str]) -> list[Finding]:
    """All findings below these folders."""
    return [finding for name in files(folders) for finding in check_text(name, (ROOT / name).read_text())]


def main() -> None:
    """Print each finding and a count; status 1 if there is any."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.vocabulary", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="folders or files to check; none: all")
    found = check(parser.parse_args().folders)
    for finding in found:
        print(finding)  # noqa: T201
    counts = Counter(finding.word for finding in found).most_common()
    print(f"{len(found)} retired words" + (": " if counts else ""), end="")  # noqa: T201
    print(", ".join(f"{word} {count}" for word, count in counts))  # noqa: T201
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
