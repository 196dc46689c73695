"""Sends a request until its outcome is settled: the pauses between attempts, and when to give up."""

import http.client
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ingest.client.connection import HttpConnection, Request, Response
from ingest.client.decision import Abort, Decision, ItemFailed, Retry, Settled, decide

#: The first pause lasts at most this long, in seconds. Each further pause may last twice as long, up to the longest.
FIRST_S = 0.5
LONGEST_S = 15.0
#: After this many attempts, if the service answers at all, the image is taken for the cause.
TRIES = 5


class ServiceError(Exception):
    """No request can succeed now: the service is unavailable, or it refuses the key, the model or an option.

    `passing`: the service is unavailable or busy, so the same request may succeed later.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class StoppedError(Exception):
    """The client was stopped while this request was in flight, or before."""

    def __init__(self) -> None:
        super().__init__("the client was stopped by abort() or aclose()")


def pause_s(tries: int, after_s: float) -> float:
    """The pause after this many attempts (1 or more), in seconds. It is random, so that clients spread out.

    `after_s`, from Retry-After, is the minimum; a random part is added to it.
    """
    longest = min(LONGEST_S, FIRST_S * 2 ** min(tries - 1, 30))
    return after_s + random.uniform(0 if after_s else longest / 2, longest)  # noqa: S311 (not for secrecy)


@dataclass(slots=True)
class RetryPolicy:
    """Shared by all connections. The service may be silent for `limit_s` seconds since its last response to any."""

    limit_s: float
    last_response_s: float = field(default_factory=time.monotonic)

    def note_response(self) -> None:
        self.last_response_s = time.monotonic()

    def left_s(self, since_s: float) -> float:
        """Seconds until the limit; `since_s` is the time of this request's first attempt. Negative beyond it."""
        return max(since_s, self.last_response_s) + self.limit_s - time.monotonic()

    def gives_up_on_item(self, tries: int, since_s: float) -> bool:
        """Whether the image is the cause: the service has answered others since this request's first attempt."""
        return tries >= TRIES and self.last_response_s >= since_s


@dataclass(frozen=True, slots=True)
class Retrying:
    """What the connections of one client share. `on_retry` gets the reason of each retry, from any thread."""

    policy: RetryPolicy
    stop: threading.Event
    on_retry: Callable[[str], None]

    def send(
        self, connection: HttpConnection, request: Request, decide_on: Callable[[Response], Decision] = decide
    ) -> Settled:
        """Raises ServiceError, and StoppedError once `stop` is set."""
        since_s = time.monotonic()
        tries = 0
        while True:
            tries += 1
            match self._try(connection, request, decide_on):
                case Abort(reason):
                    raise ServiceError(f"{connection.url}: {reason}")
                case Retry(reason, after_s, may_be_image, status, code):
                    if may_be_image and self.policy.gives_up_on_item(tries, since_s):
                        return ItemFailed(f"{reason} (tried {tries} times)", status, code)
                    if after_s > (left_s := self.policy.left_s(since_s)):
                        raise ServiceError(f"{connection.url}: {reason}", passing=True)
                    self.on_retry(reason)
                    # The last attempt is at the limit, and not a pause later.
                    if self.stop.wait(min(pause_s(tries, after_s), left_s)):
                        raise StoppedError
                case settled:
                    self.policy.note_response()
                    return settled

    def _try(self, connection: HttpConnection, request: Request, decide_on: Callable[[Response], Decision]) -> Decision:
        if self.stop.is_set():
            raise StoppedError
        try:
            response = connection.send(request)
        except ssl.SSLCertVerificationError as error:
            return Abort(
                f"its certificate is not trusted: {error.verify_message}. "
                "Name the file of an authority of your own in SSL_CERT_FILE"
            )
        except (OSError, http.client.HTTPException) as error:
            if self.stop.is_set():
                raise StoppedError from error
            # A refused connection says nothing about the image. A connection that breaks may be due to it.
            return Retry(_describe(error), may_be_image=not isinstance(error, ConnectionRefusedError))
        decision = decide_on(response)
        if isinstance(decision, Retry) and decision.may_be_image:
            self.policy.note_response()
        return decision


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no response in time"
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        return "the connection broke off"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
