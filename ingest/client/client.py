"""`Client`: sends images to a running Sluice from a program, with retries and idempotency keys."""

import http.client
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Final, Self

from ingest.client.connection import TIMEOUT_S, HttpConnection, Request, Response, target
from ingest.client.decision import Decision, ItemFailed, Queued, Result, Settled, decide, decide_stored, label_count
from ingest.client.retry import Retrying, RetryPolicy, StoppedError

#: An encoded image, a path to one, or an open binary file.
Image = bytes | str | PathLike[str] | BinaryIO

#: Seconds that the service may be unavailable, since its last response, before a request raises ServiceError.
GIVE_UP_AFTER_S: Final = 60.0

#: Seconds that one poll of a result waits on the server; well below the time limit of a connection.
_POLL_S: Final = 10.0

_IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e\xa0-\xff]{1,255}")


class PredictionError(Exception):
    """This image has no predictions, for example because it is damaged. Other images may well have.

    `status` and `code` are those of the response, such as 422 and "damaged_image". They are 0 and empty if the
    connection broke at each try.
    """

    def __init__(self, reason: str, status: int = 0, code: str = "") -> None:
        super().__init__(reason, status, code)
        self.status = status
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class Client:
    """May be shared by threads: each request in flight has its own connection, which stays open for the next one.

    A request that fails for a passing reason (503, 429, a broken connection) is sent again after a pause.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:5000",
        *,
        model: str = "",
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        on_retry: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """Without `api_key`, the key is that of the variable SLUICE_API_KEY; "" sends none.

        Raises ValueError for a URL or key that cannot be used. `on_retry` gets the reason of each retry.
        """
        self._target = target(url, api_key=os.environ.get("SLUICE_API_KEY", "") if api_key is None else api_key)
        self._model = model
        self._timeout_s = timeout_s
        self._retrying = Retrying(RetryPolicy(give_up_after_s), threading.Event(), on_retry)
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()

    def predict(self, image: Image, *, top: int | None = None, idempotency_key: str | None = None) -> Result:
        """The predictions, most probable first. Raises PredictionError, ServiceError and StoppedError.

        With an idempotency key, the same image sent again returns the first result while results are kept. Raises
        ValueError for a key that has not 1 to 255 characters, or some that a header cannot carry.
        """
        headers = {} if idempotency_key is None else _key_header(idempotency_key)
        settled = self._send(self._predict_request(image, top, headers))
        return self.result(settled.id) if isinstance(settled, Queued) else _result_of(settled)

    def submit(self, image: Image, *, top: int | None = None, idempotency_key: str | None = None) -> str:
        """Enqueues the image and returns its request id at once. A retry of this call enqueues nothing twice.

        The client makes an idempotency key for each call. Pass one of your own to repeat a call after a crash.
        """
        key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
        headers = {"Prefer": "respond-async", **_key_header(key)}
        settled = self._send(self._predict_request(image, top, headers))
        return settled.id if isinstance(settled, Queued) else _result_of(settled).id

    def result(self, request_id: str, *, wait_s: float | None = None) -> Result:
        """Waits for the result, for `wait_s` seconds at most. Raises TimeoutError, PredictionError, ServiceError."""
        until_s = time.monotonic() + wait_s if wait_s is not None else None
        while (found := self.poll(request_id, wait_s=_POLL_S if until_s is None else _left(until_s))) is None:
            if until_s is not None and time.monotonic() >= until_s:
                raise TimeoutError(f"request {request_id} has no result after {wait_s:g} s")
            # The server may wait for less time than it was asked to.
            if self._retrying.stop.wait(0.05):
                raise StoppedError
        return found

    def poll(self, request_id: str, *, wait_s: float = 0.0) -> Result | None:
        """The result, or None if it is not there within `wait_s` seconds (10 at most).

        Raises ServiceError, and PredictionError if the request failed, was cancelled or deleted, or is unknown.
        """
        headers = {"Prefer": f"wait={min(wait_s, _POLL_S):.0f}"} if wait_s >= 1 else {}
        path = self._target.result_path(request_id)
        settled = self._send(Request("GET", path, headers=headers), decide_stored)
        return None if isinstance(settled, Queued) else _result_of(settled)

    def delete(self, request_id: str) -> None:
        """Cancels a queued request, or deletes a finished result. Raises PredictionError and ServiceError."""
        settled = self._send(Request("DELETE", self._target.result_path(request_id)), _decide_deleted)
        if isinstance(settled, ItemFailed):
            raise PredictionError(settled.reason, settled.status, settled.code)

    def label_count(self) -> int | None:
        """How many labels the model has; None if the service does not say that at once."""
        with self._connection() as connection:
            try:
                response = connection.send(Request("GET", self._target.models_path))
            except (OSError, http.client.HTTPException):
                return None
        return label_count(response, self._model)

    def abort(self) -> None:
        """Stops all requests in flight, from another thread: they raise StoppedError, and so does every later one."""
        self._retrying.stop.set()
        with self._lock:
            for connection in self._busy:
                connection.abort()

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _predict_request(self, image: Image, top: int | None, headers: dict[str, str]) -> Request:
        headers["Content-Type"] = "application/octet-stream"
        return Request("POST", self._target.predict_path(self._model, top), read_image(image), headers)

    def _send(self, request: Request, decide_on: Callable[[Response], Decision] = decide) -> Settled:
        with self._connection() as connection:
            return self._retrying.send(connection, request, decide_on)

    @contextmanager
    def _connection(self) -> Iterator[HttpConnection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else HttpConnection(self._target, timeout_s=self._timeout_s)
            self._busy.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._busy.discard(connection)
                self._idle.append(connection)


def read_image(image: Image) -> bytes:
    """The encoded bytes. Raises OSError if a file cannot be read."""
    if isinstance(image, bytes):
        return image
    return Path(image).read_bytes() if isinstance(image, str | PathLike) else image.read()


def _key_header(key: str) -> dict[str, str]:
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ValueError("the idempotency key must have 1 to 255 characters that an HTTP header can carry")
    return {"Idempotency-Key": key}


def _result_of(settled: Settled) -> Result:
    if isinstance(settled, ItemFailed):
        raise PredictionError(settled.reason, settled.status, settled.code)
    assert isinstance(settled, Result)
    return settled


def _decide_deleted(response: Response) -> Decision:
    """204: deleted. Otherwise the response is that of GET."""
    return Queued("") if response.status == 204 else decide_stored(response)


def _left(until_s: float) -> float:
    return max(0.0, until_s - time.monotonic())
