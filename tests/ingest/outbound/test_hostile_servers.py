"""Servers of images that break HTTP, or send what has no end: each ends with a problem, in time, and leads nowhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ingest.api.image_urls import ImageUrls
from ingest.errors import Problem
from ingest.request_body import Limits
from ingest.upload_memory import UploadMemory
from stream.settings import IngestSettings
from tests.support.processes import needs_proc

pytestmark = pytest.mark.anyio

DATA = b"\x89PNG" + bytes(100)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
LIMIT_S = 0.5


@asynccontextmanager
async def answering(begin: bytes, again: bytes = b"", pause_s: float = 0) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that sends these bytes to each request, the second part for ever, at 127.0.0.1 and 127.0.0.2.

    Gives its port, and the addresses at which it was asked.
    """
    asked: list[str] = []
    running: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        asked.append(writer.get_extra_info("sockname")[0])
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(begin.replace(b"PORT", str(port).encode()))
                await writer.drain()
                while again:
                    writer.write(again)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
        finally:
            writer.close()
            running.discard(task)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await asyncio.start_server(answer, "127.0.0.2", port):
            yield port, asked
    left = tuple(running)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def fetched(port: int, limit_s: float = 30) -> bytes:
    """What arrives in time from 127.0.0.1, the only address that may be reached here."""
    settings = IngestSettings.model_validate(
        {
            "fetch_urls": True,
            "outbound_http": True,
            "outbound_networks": "127.0.0.1/32",
            "fetch_timeout_s": limit_s,
        }
    )
    images = ImageUrls(settings)
    try:
        limits = Limits(max_bytes=1_000_000, max_images=4, body_timeout_s=5, memory=UploadMemory(10**9))
        (found,) = await images.fetch([f"http://127.0.0.1:{port}/a.png"], limits)
        if found.problem:
            raise found.problem
        return found.data
    finally:
        await images.aclose()


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65_536),
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n" * 4096),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
        (CHUNKED + b"0\r\n", b"X: a\r\n" * 1000),
        (CHUNKED + b"1;" + b"a" * 65_536, b"a" * 65_536),
        (CHUNKED + b"FFFFFFFFFFFFFFFF\r\n", DATA * 100),
        (FOUND.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"/\r\n\r\n", b"68\r\n" + DATA + b"\r\n"),
    ],
    ids=["header", "headers", "1xx", "trailers", "chunk extension", "chunk", "body of a redirect"],
)
async def test_what_has_no_end_is_ended(begin: bytes, again: bytes) -> None:
    """By a limit of bytes or by the limit of time."""
    async with answering(begin, again) as (port, _):
        with pytest.raises(Problem):
            await fetched(port, LIMIT_S)


async def test_headers_a_byte_at_a_time_end_in_time() -> None:
    """As a slow body does."""
    async with answering(b"HTTP/1.1 200 OK\r\nX: ", b"a", pause_s=0.01) as (port, _):
        with pytest.raises(Problem, match=rf"within {LIMIT_S} s"):
            await fetched(port, LIMIT_S)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 500\r\n\r\n" + DATA,
        OK + b"Content-Length: 104\r\nContent-Length: 10\r\n\r\n" + DATA,
        OK + b"Content-Length: -1\r\n\r\n" + DATA,
        OK + b"Content-Length: +104\r\n\r\n" + DATA,
        OK + b"Content-Length: \xb2\r\n\r\n" + DATA,
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n68\r\n" + DATA + b"\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\n" + DATA,
        CHUNKED + b"68\r\n" + DATA[:50],
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + DATA,
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\0: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0\0\0\4\0\0\0\0\0",
        DATA,
        b"",
    ],
)
async def test_an_answer_that_is_not_http_is_a_problem(answer: bytes) -> None:
    """Never another exception, and never half an image."""
    async with answering(answer) as (port, asked):
        with pytest.raises(Problem, match="image_url could not be fetched"):
            await fetched(port)
        assert asked == ["127.0.0.1"]


@needs_proc
@pytest.mark.parametrize(
    "location",
    [
        b"//127.0.0.2:PORT/", b"////127.0.0.2:PORT/", b"/\\127.0.0.2:PORT/", b"\\\\127.0.0.2:PORT\\",
        b"http:127.0.0.2:PORT/", b"http:///127.0.0.2:PORT/", b"http://127.0.0.2:PORT\t/", b"HTTP://127.0.0.2:PORT",
        b"http://%31%32%37.0.0.2:PORT/", b"http://0x7f.2:PORT/", b"http://127.2:PORT/", b"http://0177.0.0.2:PORT/",
        b"http://2130706434:PORT/", b"http://[::ffff:127.0.0.2]:PORT/", b"http://127.0.0.1:PORT@127.0.0.2:PORT/",
        b"http://127.0.0.1\\@127.0.0.2:PORT/", b"http://127.0.0.2:PORT#@127.0.0.1/", b"http://127.0.0.2.:PORT/",
        b"javascript:1", b"data:image/png;base64,AAAA", b"gopher://127.0.0.2:PORT/_GET", b"\xff\xfe", b"", b"?", b"#",
        b"http://" + b"a" * 3000, b"http://[", b"http://127.0.0.1:PORT:PORT/",
    ],
)  # fmt: skip
async def test_no_location_leads_to_a_refused_address(location: bytes) -> None:
    """However it is written: only the server that was named is asked, and no more than four times."""
    async with answering(FOUND + location + b"\r\n\r\n") as (port, asked):
        with pytest.raises(Problem, match="image_url"):
            await fetched(port)
        assert set(asked) == {"127.0.0.1"}
        assert len(asked) <= 4
