"""All bodies that are arriving share a limit of memory: slow clients cannot fill it, and fast ones do not notice."""

import asyncio
import socket
from contextlib import ExitStack

import httpx
import pytest

from ingest.errors import Overloaded
from ingest.upload_memory import UploadMemory
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes, needs_proc
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

(IMAGE,) = random_images(1)


@pytest.mark.anyio
async def test_the_upload_that_began_first_has_to_go() -> None:
    """Its task gets a TimeoutError; what it held is free."""
    memory = UploadMemory(3000)
    begun = asyncio.Event()

    async def slow() -> None:
        async with asyncio.timeout(None) as timeout:
            with memory.begin(timeout) as upload:
                upload.add(1000)
                begun.set()
                await asyncio.Event().wait()

    async def fast() -> None:
        await begun.wait()
        async with asyncio.timeout(None) as timeout:
            with memory.begin(timeout) as upload:
                upload.add(1000)
                upload.add(1000)
                assert 2000 <= memory.used < 2200
                await asyncio.sleep(0)

    outcomes = await asyncio.gather(slow(), fast(), return_exceptions=True)
    assert isinstance(outcomes[0], TimeoutError)
    assert outcomes[1] is None
    assert memory.used == 0


@pytest.mark.anyio
async def test_the_only_upload_is_refused_beyond_the_limit() -> None:
    """There is no other one to go."""
    memory = UploadMemory(3000)
    with memory.begin(asyncio.timeout(None)) as upload:
        upload.add(2000)
        with pytest.raises(Overloaded, match="began first"):
            upload.add(2000)
    assert memory.used == 0


@pytest.mark.anyio
async def test_tiny_chunks_count_for_what_they_take() -> None:
    """A client may send one byte at a time."""
    memory = UploadMemory(10**6)
    with memory.begin(asyncio.timeout(None)) as upload:
        for _ in range(1000):
            upload.add(1)
        assert memory.used > 50_000


@needs_proc
def test_slow_uploads_take_no_more_than_their_limit(processes: Processes) -> None:
    """Forty clients send half of 2 MB each and stop: most are refused, memory is bounded, and images are classified."""
    processes.consumer(version=1)
    process, url = processes.ingest(max_upload_bytes=2 * 2**20, max_upload_memory=8 * 2**20)
    assert httpx.post(f"{url}/predict", content=png(IMAGE)).status_code == 200
    before = process.resident_bytes
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 2000000\r\n\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(40):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)))
            client.sendall(head + bytes(1_000_000))
            clients.append(client)
        refused: set[socket.socket] = set()

        def most_are_refused() -> bool:
            for client in set(clients) - refused:
                client.setblocking(False)
                try:
                    if client.recv(65536).startswith(b"HTTP/1.1 503 "):
                        refused.add(client)
                except BlockingIOError:
                    continue
            return len(refused) >= 40 - 8

        wait_until(most_are_refused, "the oldest are refused")
        assert process.resident_bytes - before < 24 * 10**6
        answer = httpx.post(f"{url}/predict", content=png(IMAGE))
        assert answer.json()["predictions"] == ranked(IMAGE)
        assert clients[-1] not in refused, "who came last is still welcome"
