"""What a socket receives, as a file. Knows no protocol.

Where a socket has a time-out of Python's own, each call to it is two, and Python gives up its lock and has to get it
back around both. So the kernel keeps the time.
"""

import io
import socket
import ssl
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Bytes taken from the socket where small values are read; what is longer goes past this buffer.
_BUFFER = 4096


def inflow(connected: socket.socket) -> io.BufferedReader:
    """The file. Reading it raises TimeoutError where nothing comes for as long as the socket's time-out says."""
    encrypted = isinstance(connected, ssl.SSLSocket)  # a call may receive several times, and keeps the time itself
    return io.BufferedReader(socket.SocketIO(connected, "r") if encrypted else _Timed(connected), _BUFFER)


class _Timed(io.RawIOBase):
    """A blocking socket whose time-out is the kernel's."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        timeout_s = connected.gettimeout() or 0.0  # zero: for ever, to the kernel as well
        connected.settimeout(None)
        timeval = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connected.setsockopt(socket.SOL_SOCKET, direction, timeval)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            return self._connected.recv_into(buffer)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error
