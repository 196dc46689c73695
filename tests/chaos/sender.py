"""`python -m tests.chaos.sender PORT CLIENTS PER_S FILE ...`: sends files as images, one after the other and again.

Users' clients are on other machines, so this takes as little as it can of the cores that it shares with the service:
whole files through plain sockets, from a process of the lowest priority. It prints a line when it begins to send. It
ends with its stdin, but not before 50 files are sent, and prints one JSON.
"""

import itertools
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from stream.host.cpu import lower_priority

LEAST: Final = 50

_TIMEOUT_S = 120.0


class Sender:
    """Some clients, each of which sends the next file as soon as it has its response; at most `per_s` in a second."""

    def __init__(self, port: int, files: Sequence[bytes], per_s: float) -> None:
        self.statuses: Counter[str] = Counter()
        self.ending = threading.Event()
        self._address = ("127.0.0.1", port)
        self._files = files
        self._per_s = per_s
        self._numbers = itertools.count()
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Be one of the clients until `ending` is set."""
        while (number := next(self._numbers)) < LEAST or not self.ending.is_set():
            if self._per_s:
                time.sleep(max(0.0, self._began_s + number / self._per_s - time.monotonic()))
            self.statuses.update([self._send(self._files[number % len(self._files)])])

    def _send(self, file: bytes) -> str:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(file)}\r\n\r\n"
        with socket.create_connection(self._address, timeout=_TIMEOUT_S) as connection:
            with suppress(ConnectionError):  # Refused before all of it was there. The response says why.
                connection.sendall(head.encode())
                connection.sendall(file)
            try:
                with connection.makefile("rb") as response:
                    return response.read().partition(b" ")[2][:3].decode() or "closed"
            except ConnectionError:
                return "closed"


def main(port: int, clients: int, per_s: float, paths: Sequence[str]) -> None:
    lower_priority(19)
    sender = Sender(port, [Path(path).read_bytes() for path in paths], per_s)
    threads = [threading.Thread(target=sender.run) for _ in range(clients)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for thread in threads:
        thread.start()
    sys.stdin.read()
    sender.ending.set()
    for thread in threads:
        thread.join()
    json.dump(sender.statuses, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
