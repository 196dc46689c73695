"""The documents, taken apart: tables, commands, links and anchors."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))


def text(name: str) -> str:
    return (ROOT / name).read_text()


def rows(name: str, *heading: str) -> list[tuple[str, ...]]:
    """The rows of the tables in a document whose heading begins with these cells; a cell's one pair of ` is removed."""
    found: list[tuple[str, ...]] = []
    inside = False
    for line in text(name).splitlines():
        cells = tuple(_bare(cell.strip()) for cell in line.strip().strip("|").split("|"))
        if not line.startswith("|"):
            inside = False
        elif inside and not set(line) <= set("| -"):
            found.append(cells)
        elif cells[: len(heading)] == heading:
            inside = True
    assert found, f"{name} has no table that begins with {heading}"
    return found


def assert_same(document: str, listed: Iterable[object], there: Iterable[object]) -> None:
    """A document lists each of what is there, once, and nothing else."""
    counted, wanted = Counter(list(listed)), Counter(list(there))
    missing, foreign = list((wanted - counted).elements()), list((counted - wanted).elements())
    assert not missing, f"{document} lacks {missing}"
    assert not foreign, f"{document} has {foreign}, which do not exist, or are listed twice"


def _bare(cell: str) -> str:
    return cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell


def code(path: Path) -> str:
    """All that a document sets as code, one piece a line."""
    whole = path.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", whole, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


#: What begins a shell command, behind variables that are set for it alone.
_PROGRAMS = (
    r"(?:\.venv/bin/\S+|python3?|pip|sluice|make|curl|docker|kubectl|git|node|java|npm|sudo|mkdir|cd|source"
    r"|redis-cli|openssl)"
)
_SHELL = re.compile(rf"(?:[A-Z_]+=\S+ )*{_PROGRAMS}(?: |$)|export [A-Z_]+=")


@dataclass(frozen=True, slots=True)
class ShownCommand:
    """A shell command of a document, and what the document prints below it; nothing for a command in a sentence."""

    document: str
    command: str
    output: str = ""


def shown_commands(path: Path) -> Iterator[ShownCommand]:
    """Each shell command of a document: first those of console blocks, then those in sentences and tables."""
    name = str(path.relative_to(ROOT))
    for block in re.findall(r"^```console\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, output = re.findall(r"(?s)((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", shown)[0]
            yield ShownCommand(name, command, output)
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for words in (" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose)):
        if _SHELL.match(words):
            yield ShownCommand(name, words)


def commands_outside_of_console_blocks(path: Path) -> list[str]:
    """Lines that look like shell commands in other blocks, where `shown_commands` does not see them."""
    text = re.sub(r"^```(?:console|python|java|js|json|yaml)\n.*?^```", "", path.read_text(), flags=re.M | re.S)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"^ {4}(.*)$", text, re.M)
    return [line for block in blocks for line in block.splitlines() if _SHELL.match(line.removeprefix("$ "))]


def links(path: Path) -> list[str]:
    """Targets of links within the repository."""
    return [target for target in re.findall(r"\]\(([^)#]+)", path.read_text()) if "://" not in target]


def links_to_headings(path: Path) -> list[tuple[Path, str]]:
    """The document and the anchor of each link to a heading; both of this repository."""
    found = re.findall(r"\]\(([^):#]*)#([^)]+)\)", path.read_text())
    return [((path.parent / name).resolve() if name else path, anchor) for name, anchor in found]


def anchors(path: Path) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
