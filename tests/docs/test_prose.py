"""The documents are written in short and plain sentences, and the checker that says so finds what is not."""

import pytest

from tests.docs.prose import MAX_DOCUMENT_LINES, check, files, prose_of, sentences
from tests.support.documents import ROOT

LONG = "This sentence " + "goes on and on " * 9 + "without an end."


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT)) for path in files()])
def test_a_document_is_plainly_written(name: str) -> None:
    """Short sentences, plain phrases, and lines that fit."""
    assert not list(check(name, prose_of(ROOT / name)))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("docs/a.md", f"Short.\n\n{LONG}", "docs/a.md:3: 41 words in one sentence; split it: This sentence goes"),
        ("docs/a.md", "One two three four five six. " * 2 + LONG, "41 words in one sentence"),
        ("docs/a.md", " ".join(["word"] * 18) + ".", "18.0 words on average; have fewer than 18"),
        ("docs/a.md", f"| cell | {LONG} |\n", "docs/a.md:1: 41 words in one sentence"),
        ("docs/a.md", "# Title\n\nIt starts anew.", "docs/a.md:3: 'anew'; write: again"),
        ("docs/a.md", "Nine targets.\n\n- All 22 bars hold.", "docs/a.md:3: '22 bars'; write: targets"),
        ("docs/a.md", "- Post a photograph.", "'photograph'; write: image"),
        ("docs/a.md", "word " * 30, "docs/a.md:1: 150 columns; wrap it at 120"),
        ("README.md", "One word. " * 301, "602 words; have 600 at most"),
        ("CHANGELOG.md", "A line.\n" * (MAX_DOCUMENT_LINES["CHANGELOG.md"] + 1), "49 lines; have 48 at most"),
    ],
)
def test_what_is_not_plain_is_found(name: str, text: str, complaint: str) -> None:
    """With file and line, and what to do about it."""
    assert any(complaint in line for line in check(name, text)), list(check(name, text))


@pytest.mark.parametrize(
    "text",
    [
        f"Run it:\n\n```console\n$ told anew {LONG * 3}\n```\n",
        f"See `told anew {LONG}`.",
        '<picture>\n  <img alt="A photograph">\n</picture>\n\nShort.',
        "<!-- told -->\n\nShort.",
        "A progress bar shows the rate. It has just 3 px.".replace("just ", ""),
        f"| code |\n| --- |\n| `{LONG}` |\n",
    ],
)
def test_code_and_markup_are_not_prose(text: str) -> None:
    """What a program reads may be as long as it is."""
    assert not [line for line in check("docs/a.md", text) if "columns" not in line]


def test_sentences_end_where_they_end() -> None:
    """At full stops between sentences; not at those within numbers, names and code."""
    text = "It takes 0.4 s with `a.b. C`. Next one\ngoes on. See [that page](x.md).\n\n- One.\n- Two and\n  a half."
    found = [(sentence.line, sentence.words) for sentence in sentences(text)]
    assert found == [(1, 6), (1, 4), (1, 3), (4, 1), (5, 4)]
