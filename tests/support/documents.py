"""The documents, taken apart: tables, commands, links and anchors."""

import re
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


def _bare(cell: str) -> str:
    return cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell


def code(path: Path) -> str:
    """All that a document sets as code, one piece a line."""
    whole = path.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", whole, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


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
