"""The protocol's tensors, byte for byte."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InferenceFailed
from ingest.oip.tensors import elements, float_data, float_json, ranked, string_data, string_json
from ingest.request_body import Upload

ROWS = np.array([[0.5, 0.25, 0.25], [0.1, 0.0, 0.9]], np.float32)


def test_binary_data_is_little_endian_and_without_padding() -> None:
    """As the protocol's binary tensor data extension has it."""
    assert float_data(ROWS).hex(" ", 4) == "0000003f 0000803e 0000803e cdcccc3d 00000000 6666663f"
    assert string_data([["0.5:0", "é"]]) == b"\x05\0\0\x000.5:0\x02\0\0\0\xc3\xa9"


def test_strings_survive_the_way_as_elements() -> None:
    """What is written for an answer can be read as a request."""
    files = ["", "abc", "é" * 300]
    assert elements(memoryview(string_data([files])), 3) == [Upload(None, one.encode()) for one in files]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_json_tells_any_two_floats_apart(values: list[float]) -> None:
    """Read back, each is the very float32 that it was."""
    rows = np.array([values, values], np.float32)
    text = b"".join(float_json(rows))
    assert np.array_equal(np.array(json.loads(b"[%b]" % text), np.float32).reshape(rows.shape), rows)


def test_what_is_no_number_has_no_place_in_json() -> None:
    """JSON has neither NaN nor infinity."""
    for value in (math.nan, math.inf):
        with pytest.raises(InferenceFailed):
            list(float_json(np.array([[value]], np.float32)))


def test_classes_are_ranked_with_equals_in_their_order() -> None:
    """value:index:label; without a label there is no third part."""
    labels = ("cat", "", "sea: deep")
    assert ranked(ROWS[0], labels, 2) == ["0.500000:0:cat", "0.250000:1"]
    assert ranked(ROWS[1], labels, 9) == ["0.900000:2:sea: deep", "0.100000:0:cat", "0.000000:1"]
    weekly = np.arange(1000, dtype=np.float32) % 7
    assert ranked(weekly, [""] * 1000, 3) == ["6.000000:6", "6.000000:13", "6.000000:20"]
    assert json.loads(b"[%b]" % b"".join(string_json([['a"'], ["b"]]))) == ['a"', "b"]
