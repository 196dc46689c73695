"""Checks the prose of the documents: length of sentences, of documents and of lines, and phrases not to use.

`python -m tests.docs.prose [FILE ...]` prints what to change; without a file it checks all documents and examples.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tests.support.documents import DOCUMENTS, ROOT

MAX_MEAN_WORDS = 18
MAX_WORDS = 35
MAX_COLUMNS = 120

#: What a whole document may have: words in all, or lines that are not empty.
MAX_DOCUMENT_WORDS = {"README.md": 600}
MAX_DOCUMENT_LINES = {"CHANGELOG.md": 48}

#: Phrases as regular expressions, and what to write instead. Code is not searched.
PHRASES = {
    r"anew": "again",
    r"tells?|told": "reports, logs, says",
    r"so (?:long|many|few) as": "while, if, as many as",
    r"(?:for|kept) so long": "for that time",
    r"so many(?! that)": "that many",
    r"whoever|somebody|anybody|nobody": "the subject: the client, a consumer, no client",
    r"(?-i:Of several)": "For several",
    r"shall": "must, should",
    r"by (?:itself|themselves)": "automatically",
    r"bars?(?= (?:hold|holds|is met|are met|of the benchmark))|\d+ bars": "targets",
    r"(?:is|are|was|be|being) away": "unavailable",
    r"bring \w+ back": "restore",
    r"mend(?:s|ed|ing)?": "fix",
    r"beside": "next to, in addition to",
    r"(?:is|are|was|were) taken\b(?! (?:over|from|out|by))": "accepted",
    r"pictures?|photographs?": "image",
    r"gives? a place": "returns a URL",
    r"seats?": "GPU lease",
    r"of before": "previous",
    r"where it (?:is|has) not": "otherwise",
    r"goes? on(?! to)|gone on|going on": "continue, resume",
    r"a (?:wish|pity)|alas|behold": "plain words",
    r"e\.g\.|i\.e\.": "for example, that is",
    r"simply|just|easily|obviously|of course": "nothing: leave it out",
    r"utili[sz]e": "use",
    r"in order to": "to",
    r"hereby|thereof|therein|wherein|whereby|thereby": "plain words",
    r"is let|are let|let wait": "may, waits",
    r"all the same": "nevertheless, still",
    r"at the begin\b": "at the start",
    r"mind the": "check the",
    r"ought": "should",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and the line where its paragraph begins."""

    line: int
    text: str
    in_table: bool

    @property
    def words(self) -> int:
        """How many words; one piece of code is one word."""
        return len([word for word in self.text.split() if re.search(r"\w", word)])


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text without markup, its code replaced by `code`."""

    line: int
    text: str
    in_table: bool


def paragraphs(markdown: str) -> Iterator[Paragraph]:
    """Paragraphs, list items and table cells. Headings, code blocks and HTML are left out."""
    held: list[str] = []
    start = 0
    for number, line in enumerate([*_blanked(markdown).splitlines(), ""], 1):
        ends = re.match(r"\s*(?:$|#|\||[-*] |\d+\. )", line)
        if ends and held:
            yield Paragraph(start, _plain(" ".join(held)), in_table=False)
            held = []
        if line.startswith("|"):
            yield from (Paragraph(number, _plain(cell), in_table=True) for cell in _cells(line))
        elif line.strip() and not line.startswith("#"):
            start = start if held else number
            held.append(re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line).strip())


def _blanked(markdown: str) -> str:
    """The text with everything that is not prose replaced by spaces, so that lines keep their numbers."""
    for pattern in (r"^(```|~~~).*?^\1", r"<!--.*?-->", r"<[a-z/][^>]*>", r"!\[[^\]]*\]\([^)]*\)", r"^ {4}\S[^\n]*$"):
        markdown = re.sub(pattern, _spaces, markdown, flags=re.MULTILINE | re.DOTALL)
    return markdown


def _spaces(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _cells(row: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", row.strip().strip("|"))
    return [cell for cell in cells if re.search(r"\w", cell)]


def _plain(text: str) -> str:
    text = re.sub(r"`[^`]+`", "`code`", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*?|https?://\S+", "", text).strip()


def sentences(markdown: str) -> Iterator[Sentence]:
    """The sentences of all paragraphs. A list after a colon is not part of the sentence before it."""
    for paragraph in paragraphs(markdown):
        for text in re.split(r"(?<=[.!?])[\")]?\s+(?=[A-Z`\"(\d])", paragraph.text):
            yield Sentence(paragraph.line, text, paragraph.in_table)


def check(name: str, markdown: str) -> Iterator[str]:
    """One line for each thing to change, with the place where it stands."""
    found = list(sentences(markdown))
    prose = [sentence.words for sentence in found if not sentence.in_table]
    if prose and mean(prose) >= MAX_MEAN_WORDS:
        yield f"{name}:1: sentences have {mean(prose):.1f} words on average; have fewer than {MAX_MEAN_WORDS}"
    for sentence in found:
        if sentence.words > MAX_WORDS:
            yield f"{name}:{sentence.line}: {sentence.words} words in one sentence; split it: {sentence.text[:70]}"
    yield from _phrases(name, markdown)
    yield from _size(name, markdown)


def _phrases(name: str, markdown: str) -> Iterator[str]:
    for paragraph in paragraphs(markdown):
        for pattern, instead in PHRASES.items():
            for match in re.finditer(rf"\b(?:{pattern})\b", paragraph.text, re.IGNORECASE):
                yield f"{name}:{paragraph.line}: '{match[0]}'; write: {instead}"


def _size(name: str, markdown: str) -> Iterator[str]:
    words, lines = len(markdown.split()), sum(1 for line in markdown.splitlines() if line.strip())
    if words > MAX_DOCUMENT_WORDS.get(name, words):
        yield f"{name}:1: {words} words; have {MAX_DOCUMENT_WORDS[name]} at most"
    if lines > MAX_DOCUMENT_LINES.get(name, lines):
        yield f"{name}:1: {lines} lines; have {MAX_DOCUMENT_LINES[name]} at most"
    for number, line in enumerate(_blanked(markdown).splitlines(), 1):
        if len(line.rstrip()) > MAX_COLUMNS and not line.startswith("|"):
            yield f"{name}:{number}: {len(line)} columns; wrap it at {MAX_COLUMNS}"


def prose_of(path: Path) -> str:
    """The Markdown of a document, but for the glossary's list of words not to use; the docstrings of a Python file."""
    text = path.read_text().partition("\n## Retired words\n")[0]
    if path.suffix != ".py":
        return text
    documented = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Module | ast.FunctionDef)]
    return "\n\n".join(filter(None, map(ast.get_docstring, documented)))


def files() -> list[Path]:
    """The documents, and the examples."""
    return [*DOCUMENTS, *sorted((ROOT / "examples").glob("*.py"))]


def main() -> None:
    """Print what to change, and each document's figures; status 1 if there is anything to change."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.prose", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="documents to check; none: all")
    found: list[str] = []
    for path in parser.parse_args().files or files():
        name = str(path.resolve().relative_to(ROOT))
        lengths = [sentence.words for sentence in sentences(prose_of(path)) if not sentence.in_table] or [0]
        found += check(name, prose_of(path))
        print(f"{name}: {len(lengths)} sentences, mean {mean(lengths):.1f}, longest {max(lengths)} words")  # noqa: T201
    print("\n".join(found) or "nothing to change")  # noqa: T201
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
