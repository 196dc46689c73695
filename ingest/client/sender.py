"""Takes one picture after another to the service, with retries, and brings back rows. Writes none, starts no thread."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable

from ingest.client.connection import HttpConnection
from ingest.client.decision import Abort, Classified, Decision, ItemFailed, Retry, decide
from ingest.client.item import Item, UnreadableError
from ingest.client.retry import RetryPolicy, pause_s
from ingest.client.row import Row

#: Draws the labels onto a copy of the picture; raises UnreadableError where that fails.
Annotate = Callable[[Item, bytes, Classified], None]


class GaveUpError(Exception):
    """The run cannot go on; the message says why."""


class StoppedError(Exception):
    """The run was told to stop while this picture was under way."""


class Sender:
    """One job: a line of its own, and what it shares with the others. `on_retry` hears of each retry."""

    def __init__(
        self,
        line: HttpConnection,
        *,
        retry_policy: RetryPolicy,
        stop: threading.Event,
        on_retry: Callable[[str], None],
        annotate: Annotate | None = None,
    ) -> None:
        self._line = line
        self._retry_policy = retry_policy
        self._stop = stop
        self._on_retry = on_retry
        self._annotate = annotate

    def send(self, item: Item) -> Row:
        """The item's row, classified_row or with its error. Raises GaveUpError and StoppedError."""
        try:
            data = item.read()
            decision = self._retry_until_settled(data)
            if isinstance(decision, Classified) and self._annotate:
                self._annotate(item, data, decision)
        except UnreadableError as error:
            return Row.failed(item, str(error))
        return (
            Row.failed(item, decision.reason)
            if isinstance(decision, ItemFailed)
            else Row.classified_row(item, decision)
        )

    def abort(self) -> None:
        self._line.abort()

    def close(self) -> None:
        self._line.close()

    def _retry_until_settled(self, data: bytes) -> Classified | ItemFailed:
        since_s = time.monotonic()
        tries = 0
        while True:
            tries += 1
            match self._try(data):
                case Classified() | ItemFailed() as settled:
                    self._retry_policy.note_response()
                    return settled
                case Abort(reason):
                    raise GaveUpError(reason)
                case Retry(reason, after_s, may_be_image):
                    if may_be_image and self._retry_policy.gives_up_on_item(tries, since_s):
                        return ItemFailed(f"{reason} (tried {tries} times)")
                    if self._retry_policy.ends(since_s, after_s):
                        raise GaveUpError(reason)
                    self._on_retry(reason)
                    if self._stop.wait(pause_s(tries, after_s)):
                        raise StoppedError

    def _try(self, data: bytes) -> Decision:
        if self._stop.is_set():
            raise StoppedError
        try:
            answer = self._line.post(data)
        except ssl.SSLCertVerificationError as error:
            return Abort(f"its certificate is not trusted: {error.verify_message}")
        except (OSError, http.client.HTTPException) as error:
            if self._stop.is_set():
                raise StoppedError from error
            # A refused connection says nothing about the picture; one that breaks off may.
            return Retry(_why(error), may_be_image=not isinstance(error, ConnectionRefusedError))
        decision = decide(answer)
        if isinstance(decision, Retry) and decision.may_be_image:
            self._retry_policy.note_response()
        return decision


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return "the connection broke off"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
