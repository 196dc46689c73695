"""What a socket receives as a file, with pairs of real sockets."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from stream.connection.resp import socket_file


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which waits for a twentieth of a second, and the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        yield ours, theirs


def test_a_long_value_is_read_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    """It comes in as many pieces as the sockets' buffers make of it; what follows it is not lost."""
    ours, theirs = pair
    value = bytes(range(256)) * 4000
    sending = Thread(target=lambda: theirs.sendall(b"first\r\n" + value + b"last\r\n"))
    sending.start()
    file = socket_file(ours)
    row = memoryview(bytearray(len(value)))
    assert file.readline() == b"first\r\n"
    assert file.readinto(row) == len(value)
    assert row == value
    assert file.readline() == b"last\r\n"
    sending.join()


def test_silence_is_a_time_out(pair: tuple[socket.socket, socket.socket]) -> None:
    """Before the first byte, and in the middle of a value."""
    ours, theirs = pair
    file = socket_file(ours)
    with pytest.raises(TimeoutError):
        file.readline()
    theirs.sendall(b"half")
    with pytest.raises(TimeoutError):
        file.readinto(bytearray(10_000))


def test_nobody_waits_for_ever_to_send(pair: tuple[socket.socket, socket.socket]) -> None:
    """The other end takes nothing, and the buffers are full."""
    ours, _ = pair
    socket_file(ours)
    with pytest.raises(BlockingIOError):
        ours.sendall(bytes(10_000_000))


def test_the_end_is_no_time_out(pair: tuple[socket.socket, socket.socket]) -> None:
    """The other end has gone."""
    ours, theirs = pair
    file = socket_file(ours)
    theirs.close()
    assert file.readline() == b""


def test_without_a_time_out_there_is_none() -> None:
    """As the socket had it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        file = socket_file(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
        theirs.sendall(b"some\r\n")
        assert file.readline() == b"some\r\n"
