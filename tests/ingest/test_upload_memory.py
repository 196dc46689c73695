"""All bodies that are arriving share a limit of memory: slow clients cannot fill it, and fast ones do not notice."""

import asyncio
import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

import httpx
import pytest

from ingest.errors import Overloaded
from ingest.upload_memory import READ_BYTES, UploadMemory, needed_for
from stream.settings import IngestSettings
from tests.ingest.test_app import png, ranked
from tests.support.processes import Process, Processes, needs_proc
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

(IMAGE,) = random_images(1)

_MB: Final = 10**6


@pytest.mark.anyio
async def test_the_upload_that_began_first_has_to_go() -> None:
    """Its task gets a TimeoutError; what it held is free, before its task runs."""
    memory = UploadMemory(3 * _MB)
    begun = asyncio.Event()
    held = io.BytesIO(bytes(_MB))

    async def slow() -> None:
        async with asyncio.timeout(None) as timeout:
            with memory.begin(timeout) as upload:
                upload.free_with(held.close)
                upload.add(_MB)
                begun.set()
                await asyncio.Event().wait()

    async def fast() -> None:
        await begun.wait()
        async with asyncio.timeout(None) as timeout:
            with memory.begin(timeout) as upload:
                upload.add(_MB)
                assert not held.closed
                upload.add(_MB)
                assert held.closed
                assert memory.used == needed_for(2 * _MB)
                await asyncio.sleep(0)

    outcomes = await asyncio.gather(slow(), fast(), return_exceptions=True)
    assert isinstance(outcomes[0], TimeoutError)
    assert outcomes[1] is None
    assert memory.used == 0


@pytest.mark.anyio
async def test_the_only_upload_is_refused_beyond_the_limit() -> None:
    """There is no other one to go."""
    memory = UploadMemory(3 * _MB)
    with memory.begin(asyncio.timeout(None)) as upload:
        upload.add(2 * _MB)
        with pytest.raises(Overloaded, match="began first"):
            upload.add(2 * _MB)
    assert memory.used == 0


@pytest.mark.anyio
async def test_uploads_count_before_their_bytes_are_taken() -> None:
    """The event loop has read some of them already: at most a buffer, and no more than was declared."""
    memory = UploadMemory(10 * _MB)
    for declared in (70_000, READ_BYTES, 10**9):
        before = memory.used
        memory.begin(asyncio.timeout(None), declared)
        assert min(declared, READ_BYTES) < memory.used - before < min(declared, READ_BYTES) + 50_000


def test_a_limit_below_one_upload_for_each_worker_is_an_error() -> None:
    """Both values are in the message. The default grows instead."""
    with pytest.raises(ValueError, match=r"max_upload_memory \(40000000\) must be at least .* 4 workers .*20971520"):
        IngestSettings(workers=4, max_upload_memory=40_000_000)
    assert IngestSettings(workers=64).upload_memory >= needed_for(20 * 2**20)
    assert IngestSettings(workers=2).upload_memory == 128 * 2**20


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


_HEADS: Final = {
    "image": b"Content-Type: image/png\r\nContent-Length: 20000000\r\n\r\n",
    "form": b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 20000000\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n',
    "json": b'Content-Type: application/json\r\nContent-Length: 20000000\r\n\r\n{"image": "',
}


@contextmanager
def _slow_uploads(url: httpx.URL, head: bytes, size: int) -> Iterator[list[socket.socket]]:
    """A hundred connections that have each sent that many bytes of a body, and then nothing more."""

    def send(client: socket.socket) -> None:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + head)
        for _ in range(size // 100_000):
            client.sendall(b"A" * 100_000)

    with ExitStack() as stack:
        address = (url.host, url.port or 80)
        clients = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(100)]
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(send, clients))
        yield clients


def _idle_bytes(process: Process, url: str) -> int:
    """The memory of both workers and their decoders, once all of them have started and served."""
    for _ in range(8):
        assert httpx.post(f"{url}/predict", content=png(IMAGE)).status_code == 200
    last = [0]

    def is_steady() -> bool:
        last.append(process.total_bytes)
        return len(last) > 20 and max(last[-20:]) - min(last[-20:]) < _MB

    wait_until(is_steady, "the idle memory is steady")
    return last[-1]


@needs_proc
@pytest.mark.parametrize(("kind", "size"), [("image", 18 * _MB), ("form", 18 * _MB), ("json", 1_900_000)])
def test_100_slow_uploads_take_no_more_than_the_setting(processes: Processes, kind: str, size: int) -> None:
    """Of all processes of ingest, above idle. It goes back to the system once the clients are gone."""
    most = 48 * 2**20
    processes.consumer(version=1)
    process, url = processes.ingest(workers=2, max_upload_memory=most, upload_timeout_s=300)
    idle = _idle_bytes(process, url)
    with _slow_uploads(httpx.URL(url), _HEADS[kind], size):
        wait_until(lambda: process.total_bytes - idle <= most, "slow uploads are within the limit")
        assert process.total_bytes - idle > most // 4, "it holds uploads that could still be completed"
        assert httpx.post(f"{url}/predict", content=png(IMAGE)).json()["predictions"] == ranked(IMAGE)
    wait_until(lambda: process.total_bytes - idle < 8 * _MB, "the memory is given back")
