"""Plain-text tables that fit a terminal. Pure: knows no Redis and no terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

#: A column is not cut below this: its beginning shall still tell something.
_NARROWEST = 8

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; `right` for numbers, `cut` where a cell may lose its end to make the table fit."""

    heading: str
    right: bool = False
    cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None = None) -> list[str]:
    """The lines of a table, at most `width` characters where its `cut` columns allow that; None: as wide as it is."""
    cells = [[column.heading for column in columns], *rows]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    if width is not None:
        _narrow(columns, widths, width - len(_GAP) * (len(columns) - 1))
    return [_line(columns, widths, row) for row in cells]


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


def size(count: int) -> str:
    """Bytes in kB or MB of the SI: 147 B, 150.5 kB, 4.8 MB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
