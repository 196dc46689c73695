"""JSON bodies: numbers against a plain reading of the same arrays, and what is refused."""

import base64
import gc
import json
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import BadParameter, PayloadTooLarge
from ingest.request_json import MAX_JSON, decode_base64, flatten, parse_json_object, whole_numbers

#: The same cases each time, however slow the machine is.
thorough = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def nested(depth: int) -> st.SearchStrategy[Any]:
    """Arrays of arrays, all equally deep."""
    inner: st.SearchStrategy[Any] = st.integers(0, 255)
    for _ in range(depth):
        inner = st.lists(inner, min_size=1, max_size=4)
    return inner


def flat(value: Any) -> list[int]:
    return [one for inner in value for one in flat(inner)] if isinstance(value, list) else [value]


@thorough
@given(st.integers(1, 5).flatmap(nested), st.sampled_from([None, 2]))
def test_every_array_is_read_in_order(value: Any, indent: int | None) -> None:
    """However deep it is nested, and however it is spaced."""
    document = parse_json_object(json.dumps({"data": value}, indent=indent).encode())
    assert list(whole_numbers(document["data"])) == flat(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "something else"),
        ("[[]]", "something else"),
        ("[1.0]", "something else"),
        ("[1e1]", "something else"),
        ("[true]", "something else"),
        ("[1, true]", "something else"),
        ('["1"]', "something else"),
        ('[["ab"], ["c"]]', "something else"),
        ("[null]", "something else"),
        ("[NaN]", "something else"),
        ("[{}]", "something else"),
        ("[-1]", "below 0"),
        ("[256]", "above 255"),
        ("[1, 1000]", "above 255"),
        (f"[{10**30}]", "above 255"),
        ("[1, [2]]", "something else"),
        ("[[1], 2]", "some elements are arrays"),
    ],
)
def test_whatever_is_no_byte_is_refused(text: str, why: str) -> None:
    """A ValueError that says why."""
    with pytest.raises(ValueError, match=why):
        whole_numbers(json.loads(text))


@pytest.mark.parametrize(
    "text", ["", "[", "7", "[1,]", "[01]", "[1 2]", '{"a": [1}', "\ufeff{}", '{"a": ' + "9" * 5000 + "}"]
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """A BadParameter, whatever it is."""
    with pytest.raises(BadParameter, match="no JSON"):
        parse_json_object(text.encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"image": "x', "Unterminated string at character 10."),
        (b'{"image": x}', "Expecting value at character 10."),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0."),
    ],
)
def test_the_place_of_a_fault_in_json_is_named(text: bytes, why: str) -> None:
    """In a sentence that ends."""
    with pytest.raises(BadParameter) as found:
        parse_json_object(text)
    assert found.value.detail == f"The request is no JSON: {why}"


def test_too_much_json_is_refused_with_what_to_do_instead() -> None:
    """By its size, and by what it would become in memory."""
    with pytest.raises(PayloadTooLarge, match="Send binary data"):
        parse_json_object(b'{"data": [' + b"1," * (MAX_JSON // 2) + b"1]}")
    with pytest.raises(PayloadTooLarge, match="objects of JSON"):
        parse_json_object(b'{"data": [' + b"{}," * 10_000 + b"{}]}")
    with pytest.raises(PayloadTooLarge, match="members"):
        parse_json_object(b"{" + b",".join(b'"%d":1' % number for number in range(10_001)) + b"}")
    with pytest.raises(PayloadTooLarge, match="many values"):
        parse_json_object(b'{"data": [' + b"1," * 10_001 + b"1]}", most_with_many_values=0)


def test_what_is_no_base64_takes_no_time() -> None:
    """It is refused before 20 MB are translated, which held the interpreter for 300 ms."""
    text = "é" * 10_000_000
    times = []
    for _ in range(3):
        began = time.thread_time()
        with pytest.raises(BadParameter, match="characters that base64 does not have"):
            decode_base64(text, "image")
        times.append(time.thread_time() - began)
    assert min(times) < 0.02


def test_json_is_parsed_without_a_search_for_cycles() -> None:
    """500 times over all arrays took longer than to parse them, and nothing else runs meanwhile."""
    text = b'{"data":[' + b"[1,2,3]," * 300_000 + b"[1]]}"
    searches: list[str] = []

    def note(phase: str, _info: object) -> None:
        searches.append(phase)

    gc.callbacks.append(note)
    try:
        parse_json_object(text)
    finally:
        gc.callbacks.remove(note)
    assert len(searches) <= 4
    assert gc.isenabled()


def test_base64_lets_other_threads_run() -> None:
    """It is decoded in slices: no call of C code, which holds the interpreter, takes most of the time."""
    data = bytes(range(256)) * 40_000
    text = base64.b64encode(data).decode()
    shares = []
    for _ in range(3):
        began = time.thread_time()
        longest_s = longest_call_s(lambda: decode_base64(text, "image"))
        shares.append(longest_s / (time.thread_time() - began))
    assert min(shares) < 0.35
    assert decode_base64(text, "image") == data
    padded = text[: 2**20 - 2] + "=="
    with pytest.raises(BadParameter, match="not base64"):
        decode_base64(padded + text, "image")


def longest_call_s(work: Callable[[], object]) -> float:
    """CPU seconds of the longest call of C code."""
    begun: list[float] = []
    longest_s = 0.0

    def note(_frame: FrameType, event: str, _function: object) -> None:
        nonlocal longest_s
        if event == "c_call":
            begun.append(time.thread_time())
        elif event in {"c_return", "c_exception"} and begun:
            longest_s = max(longest_s, time.thread_time() - begun.pop())

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return longest_s


def test_nothing_is_as_flat_as_it_gets() -> None:
    """An empty array has no elements, at any depth."""
    assert flatten([]) == flatten([[]]) == flatten([[], []]) == []
