"""The threads of a run. Each takes an item, sends it, and puts its row into a queue.

Threads suffice because a sender mostly waits for the network. Each holds at most one image's bytes.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Final, Protocol

from ingest.client.item import Item
from ingest.client.retry import StoppedError
from ingest.client.row import Row

#: How often the reader of the rows gets control, for example to handle Ctrl-C. In seconds.
_TICK_S: Final = 0.2
#: Seconds that threads may take to end after `abort`; then the run ends without them.
_END_S: Final = 2.0


class ItemSender(Protocol):
    """What the threads share."""

    def send(self, item: Item) -> Row: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Pool:
    """Returns rows in the order of completion, so a slow image delays no other."""

    def __init__(self, items: Iterator[Item], sender: ItemSender, *, threads: int) -> None:
        self._items = items
        self._items_lock = threading.Lock()
        self._sender = sender
        self._stopped = threading.Event()
        # Bounded: if the output is slow, the threads wait.
        self._rows: queue.Queue[Row | Exception | None] = queue.Queue(2 * threads)
        self._end_s = math.inf
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def rows(self) -> Iterator[Row | None]:
        """Each row, and None now and then while there is none. Raises the first error of a thread after all ended."""
        running = len(self._threads)
        raised: Exception | None = None
        while running and not self._overdue():
            try:
                row = self._rows.get(timeout=_TICK_S)
            except queue.Empty:
                yield None
                continue
            if row is None:
                running -= 1
            elif isinstance(row, Exception):
                raised = raised or row
                self.abort()
            else:
                yield row
        if raised:
            raise raised

    def abort(self) -> None:
        """Starts no further item and breaks off the requests in flight. Rows that are finished still come."""
        self._stopped.set()
        self._end_s = min(self._end_s, time.monotonic() + _END_S)
        self._sender.abort()

    def close(self) -> None:
        self._sender.close()

    def _overdue(self) -> bool:
        """A thread that is connecting to a silent host cannot be interrupted for a minute."""
        return time.monotonic() > self._end_s

    def _work(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._rows.put(self._sender.send(item))
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 (raised again by `rows`, in the thread that reads them)
            self._rows.put(error)
        self._rows.put(None)

    def _next(self) -> Item | None:
        """The next item. Videos are decoded here, one frame at a time."""
        with self._items_lock:
            return None if self._stopped.is_set() else next(self._items, None)
