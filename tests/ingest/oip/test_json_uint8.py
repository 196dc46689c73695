"""Whole numbers out of JSON, against Python's own parser."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.oip import json_uint8 as numerals
from ingest.oip.json_uint8 import whole_numbers

nested = st.recursive(st.integers(0, 255), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=30)
spaces = st.sampled_from(["", " ", "\n  ", "\t\r\n"])


def flat(value: Any) -> list[int]:
    return [one for inner in value for one in flat(inner)] if isinstance(value, list) else [value]


@given(st.lists(nested, min_size=1, max_size=6), spaces, st.sampled_from([0, 8, 2**18]))
def test_every_array_is_read_as_json_reads_it(value: list[Any], space: str, block: int) -> None:
    """However it is nested and spaced, and wherever a block ends."""
    text = json.dumps(value, separators=("," + space, ":")).replace("[", "[" + space).replace("]", space + "]")
    # A block must reach from one comma to the next.
    longest = max(map(len, text.split(","))) + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numerals, "_BLOCK", longest + block)
        assert whole_numbers(text.encode()).tolist() == flat(value)


@given(st.text("[], 0123456789\n", max_size=12).map(lambda inside: f"[{inside}]"))
def test_whatever_is_accepted_is_json(text: str) -> None:
    """And what is refused is no JSON, or an array without numbers, or has others than 0 to 255."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    try:
        numbers = whole_numbers(text.encode()).tolist()
    except ValueError:
        assert value is None or "[]" in text.replace(" ", "").replace("\n", "") or max(flat(value)) > 255
    else:
        assert isinstance(value, list)
        assert numbers == flat(value)


@pytest.mark.parametrize(
    "text", ["", "[", "7", "[]", "[1,]", "[,1]", "[1][2]", "[1],[2]", "[1]]", "[[1]", "[1.0]", "[-1]", "[1e1]", "[01]",
             "[1 2]", "[256]", "[1000]", "[٣]", "[true]", '["1"]', "[1,\0]", " [1]"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    """A ValueError, whatever it is."""
    with pytest.raises(ValueError):
        whole_numbers(text.encode())


@pytest.mark.parametrize("text", ["[1,1,1,,1,1]", "[1,1,1,1,1,]", "[1,1,1,1,01,1]", "[1,1,1],[1,1]", "[1,1,1]1,1,1]"])
@pytest.mark.parametrize("block", range(4, 12))
def test_no_fault_hides_at_the_edge_of_a_block(text: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block ends, the tokens on both sides must fit."""
    monkeypatch.setattr(numerals, "_BLOCK", block)
    with pytest.raises(ValueError):
        whole_numbers(text.encode())


def test_a_long_array_is_read_in_blocks() -> None:
    """Across the edges of blocks no number is lost or cut in two."""
    numbers = np.random.default_rng(5).integers(0, 256, 500_000, np.uint8)
    text = json.dumps(numbers.tolist()).encode()
    assert len(text) > 4 * numerals._BLOCK
    assert np.array_equal(whole_numbers(text), numbers)
    with pytest.raises(ValueError, match="brackets"):
        whole_numbers(text[:-1] + b",1]]")
    with pytest.raises(ValueError, match="not an array of numbers"):
        whole_numbers(b"[1," + b" " * 2 * numerals._BLOCK + b"1]")
