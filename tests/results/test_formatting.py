"""Tables and figures as commands print them."""

from stream.host.text import Column, duration, size, table


def test_a_table_fits_where_it_must() -> None:
    """The columns that may be cut give way, the widest first, and none below what still tells something."""
    columns = (Column("ID"), Column("WHY", cut=True), Column("WHO", cut=True), Column("N", right=True))
    row = ("1700000000000-0", "because " * 9, "somebody-1-abcdef", "12")
    assert max(map(len, table(columns, [row]))) > 80
    heading, line = table(columns, [row], width=60)
    assert len(line) == 60
    assert line == "1700000000000-0  because because bec…  somebody-1-abcdef  12"
    assert heading.split() == ["ID", "WHY", "WHO", "N"]
    assert len(table(columns, [row], width=10)[1]) == 15 + 8 + 8 + 2 + 3 * 2


def test_figures_are_short() -> None:
    """One unit each."""
    assert [duration(seconds) for seconds in (0.04, 12, 300, 7200, 400_000)] == [
        "0.0 s", "12 s", "5 min", "2.0 h", "4.6 d",
    ]  # fmt: skip
    assert [size(count) for count in (147, 150_528, 4_816_896)] == ["147 B", "150.5 kB", "4.8 MB"]
