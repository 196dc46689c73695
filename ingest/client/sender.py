"""Takes one picture after another to the service, with retries, and brings back rows. Writes none, starts no thread."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable

from ingest.client.connection import Line
from ingest.client.decision import Hopeless, Labelled, Later, Refused, Verdict, verdict_of
from ingest.client.item import Item, UnreadableError
from ingest.client.retry import Patience, pause_s
from ingest.client.row import Row

#: Draws the labels onto a copy of the picture; raises UnreadableError where that fails.
Annotate = Callable[[Item, bytes, Labelled], None]


class GaveUpError(Exception):
    """The run cannot go on; the message says why."""


class StoppedError(Exception):
    """The run was told to stop while this picture was under way."""


class Courier:
    """One job: a line of its own, and what it shares with the others. `complain` hears of each retry."""

    def __init__(
        self,
        line: Line,
        *,
        patience: Patience,
        stop: threading.Event,
        complain: Callable[[str], None],
        annotate: Annotate | None = None,
    ) -> None:
        self._line = line
        self._patience = patience
        self._stop = stop
        self._complain = complain
        self._annotate = annotate

    def deliver(self, item: Item) -> Row:
        """The item's row, labelled or with its error. Raises GaveUpError and StoppedError."""
        try:
            data = item.read()
            verdict = self._settle(data)
            if isinstance(verdict, Labelled) and self._annotate:
                self._annotate(item, data, verdict)
        except UnreadableError as error:
            return Row.failed(item, str(error))
        return Row.failed(item, verdict.reason) if isinstance(verdict, Refused) else Row.labelled(item, verdict)

    def abort(self) -> None:
        self._line.abort()

    def close(self) -> None:
        self._line.close()

    def _settle(self, data: bytes) -> Labelled | Refused:
        since_s = time.monotonic()
        tries = 0
        while True:
            tries += 1
            match self._try(data):
                case Labelled() | Refused() as settled:
                    self._patience.heard()
                    return settled
                case Hopeless(reason):
                    raise GaveUpError(reason)
                case Later(reason, after_s, by_picture):
                    if by_picture and self._patience.blames(tries, since_s):
                        return Refused(f"{reason} (tried {tries} times)")
                    if self._patience.ends(since_s, after_s):
                        raise GaveUpError(reason)
                    self._complain(reason)
                    if self._stop.wait(pause_s(tries, after_s)):
                        raise StoppedError

    def _try(self, data: bytes) -> Verdict:
        if self._stop.is_set():
            raise StoppedError
        try:
            answer = self._line.post(data)
        except ssl.SSLCertVerificationError as error:
            return Hopeless(f"its certificate is not trusted: {error.verify_message}")
        except (OSError, http.client.HTTPException) as error:
            if self._stop.is_set():
                raise StoppedError from error
            # A refused connection says nothing about the picture; one that breaks off may.
            return Later(_why(error), by_picture=not isinstance(error, ConnectionRefusedError))
        verdict = verdict_of(answer)
        if isinstance(verdict, Later) and verdict.by_picture:
            self._patience.heard()
        return verdict


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return "the connection broke off"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
