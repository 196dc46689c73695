"""The reply of a group read, as it comes out of a connection: what lands where, and what is refused."""

import io

import pytest
from redis.exceptions import BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.connection.resp import RawEntry, entries


def file(reply: bytes, *, buffer: int = 16) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(reply), buffer)


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def entry(entry_id: bytes, **fields: bytes) -> bytes:
    words = [word for name, value in fields.items() for word in (name.encode(), value)]
    return b"*2\r\n" + bulk(entry_id) + b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def reply(*found: bytes) -> bytes:
    return b"*1\r\n*2\r\n" + bulk(b"stream") + b"*%d\r\n" % len(found) + b"".join(found)


def test_pixels_of_a_rows_size_are_read_into_it() -> None:
    """Those of another size stay with the other fields, and so do those for which there is no row.

    Wherever the file's buffer ends: what comes before the pixels may lie in it, or not.
    """
    pixels, other = bytes(range(40)), b"\r\n" * 40
    answer = reply(entry(b"1-0", v=b"1", px=pixels, due=b"7"), entry(b"2-0", px=b"ab"), entry(b"3-0", px=other))
    for buffer in range(1, len(answer) + 1):
        rows = [memoryview(bytearray(40)) for _ in range(2)]
        assert entries(file(answer, buffer=buffer), rows) == [
            RawEntry(b"1-0", {b"v": b"1", b"due": b"7"}, memoryview(pixels)),
            RawEntry(b"2-0", {b"px": b"ab"}, None),
            RawEntry(b"3-0", {b"px": other}, None),
        ]
        assert rows[0] == pixels


@pytest.mark.parametrize(
    "fields",
    [
        {"v": b"1", "id": b"ab"},
        {},
        {"a": b"x" * 64, "b": b""},
        {"a": b"\r\n", "b": b"1"},
        {"a": b"1\r\n$1\r\nc", "b": b"\r\n\r\n"},
        {"a": b"$2\r\npx\r\n$40\r\n", "b": b"2"},
        {"a": b"1\r\n$2\r\npx\r\n$40\r\n" + b"2" * 40, "b": b"2"},
        {str(number): b"" for number in range(40)},
    ],
    ids=["plain", "none", "long", "lines", "a field in a value", "a marker in a value", "pixels in a value", "many"],
)
def test_whatever_the_other_fields_hold_they_are_read_as_they_are(fields: dict[str, bytes]) -> None:
    """Short fields without an end of line are taken at once, all others word by word."""
    pixels = bytes(range(40))
    answer = reply(entry(b"1-0", **fields, px=pixels, more=b"3"), entry(b"2-0", px=pixels))
    rows = [memoryview(bytearray(40)) for _ in range(2)]
    expected = {name.encode(): value for name, value in fields.items()} | {b"more": b"3"}
    assert entries(file(answer, buffer=4096), rows) == [
        RawEntry(b"1-0", expected, memoryview(pixels)),
        RawEntry(b"2-0", {}, memoryview(pixels)),
    ]
    assert rows == [pixels, pixels]


def test_a_field_whose_value_is_the_pixels_name_is_a_field() -> None:
    """Of the words before the pixels, every other one is a name."""
    pixels = bytes(range(40))
    row = memoryview(bytearray(40))
    odd = b"*2\r\n" + bulk(b"1-0") + b"*4\r\n" + bulk(b"a") + bulk(b"px") + bulk(pixels) + bulk(b"b")
    assert entries(file(reply(odd), buffer=4096), [row]) == [RawEntry(b"1-0", {b"a": b"px", pixels: b"b"}, None)]


def test_no_reply_in_time_is_no_entry() -> None:
    """That is how Redis ends a wait."""
    assert entries(file(b"*-1\r\n"), []) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-NOGROUP No such key\r\n", ResponseError),
        (b"-LOADING Redis is loading the dataset in memory\r\n", BusyLoadingError),
        (b"+OK\r\n", InvalidResponse),
    ],
)
def test_a_refusal_is_the_error_that_redis_py_knows(answer: bytes, error: type[RedisError]) -> None:
    """Its kind decides whether it passes by itself."""
    with pytest.raises(error):
        entries(file(answer), [])


@pytest.mark.parametrize("buffer", [16, 4096])
def test_a_reply_that_ends_early_is_a_lost_connection(buffer: int) -> None:
    """Wherever it ends."""
    whole = reply(entry(b"1-0", v=b"1", px=bytes(40)))
    row = memoryview(bytearray(40))
    for size in range(len(whole)):
        with pytest.raises(RedisConnectionError):
            entries(file(whole[:size], buffer=buffer), [row])
    assert entries(file(whole, buffer=buffer), [row])
