"""The load generator says what happened to each request that failed."""

import asyncio
import itertools

import pytest

from bench.measure import load, uploads

_ENDS = (b"HTTP/1.1 200 OK", b"HTTP/1.1 504 Gateway Timeout", b"HTTP/1.1 503 Service Unavailable")


@pytest.mark.anyio
async def test_failures_are_counted_by_what_happened() -> None:
    """One request in five each: answered, timed out, refused, cut off, and never answered; none is lost."""
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            match next(numbers) % 5:
                case 3:
                    writer.close()
                    return
                case 4:
                    continue
                case number:
                    writer.write(_ENDS[number] + b"\r\ncontent-length: 0\r\n\r\n")

    async def serve_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve_until_closed, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        upload = uploads.form("/predict", b"an image")
        sample = await asyncio.to_thread(load.open_loop, port, upload, rate=50, seconds=1, connections=20, drain_s=0.5)
    assert (sample.requests, sample.refused) == (10, 10)
    assert sample.failures == {"status 504": 10, "connection lost": 10, "no answer": 10}
    assert sample.errors == 30


@pytest.mark.anyio
async def test_what_the_client_could_not_send_is_no_answer_of_the_server() -> None:
    """It is counted apart: the server never saw it."""

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sample = await asyncio.to_thread(
            load.open_loop, port, uploads.form("/predict", b"x"), rate=20, seconds=1, connections=4, drain_s=0.2
        )
    assert sample.failures == {"not sent": 16, "no answer": 4}
