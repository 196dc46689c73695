"""No retired word of docs/glossary.md comes back."""

from pathlib import Path

import pytest

from tests.docs.vocabulary import check, check_text, files, retired
from tests.support.documents import ROOT

TOP = sorted({Path(name).parts[0] for name in files([])})


@pytest.mark.parametrize("name", TOP)
def test_no_retired_word_is_used(name: str) -> None:
    """In names of files, identifiers, settings, metrics, comments, messages and documents."""
    assert not [str(finding) for finding in check([name])]


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("consumers/belt.py", "", "belt"),
        ("stream/a.py", "class GpuSeat: ...", "seat"),
        ("stream/a.py", "def drop_seats(): ...", "seats"),
        ("stream/a.py", '# The keepers\nx = "is told"', "keepers"),
        ("stream/a.py", 'log.warning("Redis is away: %s", error)', "is away"),
        ("stream/a.py", 'NAME = "dropped_letters"', "letters"),
        ("stream/scripts/admit.lua", "local courier = 1", "courier"),
        ("ingest/page/live.js", "const gatePicture = 1;", "gate"),
        ("compose.yaml", "SLUICE_RUN_TIMEOUT_S: 1", "run timeout"),
        ("docs/design.md", "One\nis started anew.", "anew"),
    ],
)
def test_a_retired_word_is_found(path: str, text: str, word: str) -> None:
    """In each kind of file, alone or as part of an identifier."""
    assert word in {finding.word for finding in check_text(path, text)}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stream/a.py", "class LeaseKeeper: ...\n# navigate the planes in place"),
        ("stream/a.py", "dead_letters = list_dead_letters(shutdown_grace_s, aggregate, background)"),
        ("stream/a.py", "def test_a_turn_takes_place() -> None: ..."),
        ("ingest/page/index.html", "<picture><img></picture>"),
        ("docs/design.md", "Redis gives the memory away. White letters stand in place."),
    ],
)
def test_other_words_may_be_used(path: str, text: str) -> None:
    """Allowed phrases, parts of words, and what is retired in names alone."""
    assert not list(check_text(path, text))


def test_a_finding_says_where_and_what_to_write() -> None:
    """Path and line, the word, its line, and the word to use."""
    (found,) = check_text("stream/a.py", '"""Fine.\n\nA seat on a GPU.\n"""')
    assert str(found) == "stream/a.py:3: 'seat' in 'A seat on a GPU.'; use GPU lease"


def test_the_glossary_lists_each_word_once() -> None:
    """In alphabetical order of its rows, with no word in two of them."""
    words = [word for row in retired() for word in row.words]
    assert len(words) == len(set(words))
    first = [row.words[0] for row in retired()]
    assert first == sorted(first)


def test_the_checker_reads_the_whole_repository() -> None:
    """Code in each language, and the documents."""
    suffixes = {Path(name).suffix for name in files([])}
    assert {".py", ".lua", ".js", ".html", ".css", ".md", ".yaml", ".toml", ""} <= suffixes
    assert all((ROOT / name).is_file() for name in files([]))
