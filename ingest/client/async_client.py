"""`AsyncClient`: the methods of `Client` for asyncio.

Each request runs in a thread of its own pool: per image that costs a tenth of the CPU time of httpx in asyncio (see
connection.py).
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Self, TypeVar

from ingest.client.client import GIVE_UP_AFTER_S, Client, Image
from ingest.client.connection import TIMEOUT_S
from ingest.client.decision import Result
from ingest.client.retry import StoppedError

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AsyncClient:
    """At most `connections` requests are in flight; further calls wait for their turn to start.

    A cancelled call stops waiting at once. Its request may still reach the service.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:5000",
        *,
        model: str = "",
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        connections: int = 32,
    ) -> None:
        """As `Client`."""
        self._client = Client(url, model=model, api_key=api_key, timeout_s=timeout_s, give_up_after_s=give_up_after_s)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="sluice-client")

    async def predict(self, image: Image, *, top: int | None = None, idempotency_key: str | None = None) -> Result:
        """As `Client.predict`."""
        return await self._run(self._client.predict, image, top=top, idempotency_key=idempotency_key)

    async def submit(self, image: Image, *, top: int | None = None, idempotency_key: str | None = None) -> str:
        """As `Client.submit`."""
        return await self._run(self._client.submit, image, top=top, idempotency_key=idempotency_key)

    async def result(self, request_id: str, *, wait_s: float | None = None) -> Result:
        """As `Client.result`. Between two polls it occupies no connection."""
        until_s = time.monotonic() + wait_s if wait_s is not None else None
        while (found := await self._run(self._client.poll, request_id, wait_s=_poll_s(until_s))) is None:
            if until_s is not None and time.monotonic() >= until_s:
                raise TimeoutError(f"request {request_id} has no result after {wait_s:g} s")
            await asyncio.sleep(0.05)
        return found

    async def delete(self, request_id: str) -> None:
        """As `Client.delete`."""
        await self._run(self._client.delete, request_id)

    async def aclose(self) -> None:
        """Stops what is in flight and closes the connections. Later calls raise StoppedError."""
        self._client.abort()
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _run(self, method: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        call = partial(method, *arguments, **options)
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        except RuntimeError as error:  # The pool has ended.
            raise StoppedError from error
        return await running


def _poll_s(until_s: float | None) -> float:
    """Short polls, so that many calls that wait share few connections."""
    return 2.0 if until_s is None else min(2.0, max(0.0, until_s - time.monotonic()))
