"""The threads of a run: each takes an item, delivers it, and hands over its row. Knows neither HTTP nor files.

Threads, because a job waits for the network nearly always; at most one picture's bytes are held by each.
"""

import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from ingest.client.item import Item
from ingest.client.row import Row
from ingest.client.sender import StoppedError

#: How often the reader of the rows gets to do something else, as looking for Ctrl-C.
_TICK_S = 0.2
#: After `abort`: how long threads may take to end before they are left to themselves.
_END_S = 2.0


class ItemSender(Protocol):
    """What one thread works with."""

    def send(self, item: Item) -> Row: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Pool:
    """Rows come in the order of completion: a slow picture holds up none, and a kill loses only what is under way."""

    def __init__(self, items: Iterator[Item], senders: Sequence[ItemSender], stop: threading.Event) -> None:
        self._items = items
        self._feed = threading.Lock()
        self._senders = senders
        self._stop = stop
        # Bounded: where the output is slow, so are the jobs.
        self._rows: queue.Queue[Row | Exception | None] = queue.Queue(2 * len(senders))
        self._end_s = math.inf
        self._threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in senders]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def rows(self) -> Iterator[Row | None]:
        """FrameStep row, None now and then while there is none; raises what a thread has raised, once all have ended."""
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
        """Nothing new is begun, and what is under way is broken off; rows that are finished still come."""
        self._stop.set()
        self._end_s = min(self._end_s, time.monotonic() + _END_S)
        for sender in self._senders:
            sender.abort()

    def _overdue(self) -> bool:
        """A thread that is connecting to a host that does not answer hears of nothing for a minute."""
        return time.monotonic() > self._end_s

    def _work(self, sender: ItemSender) -> None:
        try:
            while (item := self._next()) is not None:
                self._rows.put(sender.send(item))
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 (raised again by `rows`, in the thread that reads them)
            self._rows.put(error)
        sender.close()
        self._rows.put(None)

    def _next(self) -> Item | None:
        """Videos decode here, one frame at a time, whichever thread asks."""
        with self._feed:
            return None if self._stop.is_set() else next(self._items, None)
