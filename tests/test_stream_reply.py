"""The reply of a group read, as it comes out of a connection: what lands where, and what is refused."""

import io

import pytest
from redis.exceptions import BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.reply import RawEntry, entries


def file(reply: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(reply), 16)


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def entry(entry_id: bytes, **fields: bytes) -> bytes:
    words = [word for name, value in fields.items() for word in (name.encode(), value)]
    return b"*2\r\n" + bulk(entry_id) + b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def reply(*found: bytes) -> bytes:
    return b"*1\r\n*2\r\n" + bulk(b"stream") + b"*%d\r\n" % len(found) + b"".join(found)


def test_pixels_of_a_rows_size_are_read_into_it() -> None:
    """Those of another size stay with the other fields, and so do those for which there is no row."""
    rows = [memoryview(bytearray(40)) for _ in range(2)]
    pixels, other = bytes(range(40)), b"\r\n" * 20
    found = entries(
        file(reply(entry(b"1-0", v=b"1", px=pixels, due=b"7"), entry(b"2-0", px=b"ab"), entry(b"3-0", px=other))), rows
    )
    assert found == [
        RawEntry(b"1-0", {b"v": b"1", b"due": b"7"}, memoryview(pixels)),
        RawEntry(b"2-0", {b"px": b"ab"}, None),
        RawEntry(b"3-0", {b"px": other}, None),
    ]
    assert rows[0] == pixels


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


def test_a_reply_that_ends_early_is_a_lost_connection() -> None:
    """Wherever it ends."""
    whole = reply(entry(b"1-0", v=b"1", px=bytes(40)))
    row = memoryview(bytearray(40))
    for size in range(len(whole)):
        with pytest.raises(RedisConnectionError):
            entries(file(whole[:size]), [row])
    assert entries(file(whole), [row])
