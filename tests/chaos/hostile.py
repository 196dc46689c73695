"""Clients that no server wants: bad images, broken requests, slow uploads, and connections that end in the middle."""

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from bench.measure.uploads import Upload

#: SO_LINGER on, for zero seconds: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)

_TIMEOUT_S = 5.0


class Hostile:
    """A thread that sends one bad request after the other, `per_s` of them, and counts what it did."""

    def __init__(self, port: int, upload: Upload, *, per_s: float, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._port = port
        self._message = upload.message(f"127.0.0.1:{port}")
        self._pause_s = 1 / per_s
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._slow: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._tricks: dict[str, Callable[[socket.socket], None]] = {
            "bad image": self._bad_image,
            "damaged image": self._damaged,
            "hang-up before the response": self._hang_up,
            "reset within the upload": self._reset,
            "garbage": lambda one: one.sendall(self._random.randbytes(300)),
            "endless header": lambda one: one.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000),
            "two lengths": lambda one: one.sendall(
                b"POST /predict HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc"
            ),
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        for one in self._slow:
            one.close()

    def _run(self) -> None:
        while not self._ending.wait(self._pause_s):
            name = self._random.choice(["slow upload", *self._tricks])
            with suppress(OSError):
                self._do(name)
                self.done[name] += 1

    def _do(self, name: str) -> None:
        one = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_S)
        if name == "slow upload":
            self._keep_slow(one)
            return
        with one:
            self._tricks[name](one)

    def _keep_slow(self, one: socket.socket) -> None:
        """Of up to 20 slow uploads each gets another byte now and then; the oldest one gives up."""
        one.sendall(self._message[:500])
        self._slow.append(one)
        if len(self._slow) > 20:
            self._slow.pop(0).close()
        for slow in self._slow:
            with suppress(OSError):
                slow.sendall(b"x")

    def _bad_image(self, one: socket.socket) -> None:
        body = self._random.randbytes(2000)
        one.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        one.recv(4096)

    def _damaged(self, one: socket.socket) -> None:
        """The image with some bytes of its middle overwritten."""
        middle = len(self._message) // 2
        one.sendall(self._message[:middle] + self._random.randbytes(100) + self._message[middle + 100 :])
        one.recv(4096)

    def _hang_up(self, one: socket.socket) -> None:
        one.sendall(self._message)

    def _reset(self, one: socket.socket) -> None:
        one.sendall(self._message[: len(self._message) // 2])
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
