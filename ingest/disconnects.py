"""Clients that hang up: their work is cancelled. Knows no endpoint."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; raises ClientDisconnect, once the work is cancelled, where the client hangs up first."""
    task = asyncio.current_task()
    assert task
    watching = asyncio.ensure_future(_cancel_when_gone(request, task))
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done() and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def _cancel_when_gone(request: Request, task: asyncio.Task[Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
