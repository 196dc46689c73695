"""Text for people: tables, times, sizes, and numbers with their nouns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: A column is not cut below this width: its beginning must still tell something.
_NARROWEST: Final = 8

_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; `right` for numbers, `cut` where a cell may lose its end to make the table fit."""

    heading: str
    right: bool = False
    cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None) -> list[str]:
    """The lines of a table, at most `width` characters where its `cut` columns allow that; None: as wide as it is."""
    cells = [[column.heading for column in columns], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    if width is not None:
        _narrow(columns, widths, width - len(_GAP) * (len(columns) - 1))
    return [_line(columns, widths, row) for row in cells]


def printable(text: str) -> str:
    """The text with escapes for what a terminal obeys. Anybody who reaches Redis can write such characters."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _narrow(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Take from the widest of the columns that may be cut, until all fit or none can give."""
    while sum(widths) > room:
        givers = [number for number, column in enumerate(columns) if column.cut and widths[number] > _NARROWEST]
        if not givers:
            return
        widths[max(givers, key=lambda number: widths[number])] -= 1


def _line(columns: Sequence[Column], widths: list[int], row: Sequence[str]) -> str:
    cells = []
    for column, width, cell in zip(columns, widths, row, strict=True):
        shown = cell if len(cell) <= width else cell[: width - 1] + "…"
        cells.append(shown.rjust(width) if column.right else shown.ljust(width))
    return _GAP.join(cells).rstrip()


def duration(seconds: float) -> str:
    """A time in one unit that people read at a glance: 0.4 s, 12 s, 5 min, 3.2 h, 4.1 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86_400:.1f} d"


def counted(number: int, one: str, several: str = "") -> str:
    """A number with its noun: 1 image, 2 images. The plural of a regular noun need not be given."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def size(count: int) -> str:
    """Bytes in kB or MB of the SI: 147 B, 150.5 kB, 4.8 MB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
