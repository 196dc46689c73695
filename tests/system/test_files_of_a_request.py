"""How many files a reader has to open to follow one request."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

import pytest
import uvicorn
from redis.asyncio import Redis

from consumers.__main__ import load as load_model
from consumers.health import Health
from consumers.onnx.loader import ModelLoader
from consumers.worker import Worker
from ingest.app import create_app
from ingest.serving.http_protocol import HttpProtocol
from stream.connection.client import pack
from stream.scripts import load
from stream.settings import ConsumerSettings, IngestSettings
from tests.support.images import encoded, scene
from tests.support.processes import ROOT
from tests.support.redis.requests_direct import TINY
from tests.support.redis.servers import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

MAX_FILES = 40

#: What runs in the background comes between some requests, and not between all.
_REQUESTS = 8

_PACKAGES = tuple(f"{ROOT}/{name}/" for name in ("ingest", "stream", "consumers", "results"))


@contextmanager
def files_that_run() -> Iterator[set[str]]:
    """The files of ours whose functions run within the block, Lua included; the set may be cleared at any time.

    Of threads, only those that begin within the block count.
    """
    found: set[str] = set()
    scripts = _files_of_scripts()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGES):
            found.add(code.co_filename)
            if code is pack.__code__ and frame.f_locals["command"] == "EVALSHA":
                found.update(scripts.get(frame.f_locals["words"][0], ()))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _files_of_scripts() -> dict[str, list[str]]:
    """The files that each script is made of, by its hash."""
    bodies = {path: path.read_text().partition("\n")[2] for name in _PACKAGES for path in Path(name).rglob("*.lua")}
    found = {}
    for path in bodies:
        script = load(Redis(), str(path.parent.relative_to(ROOT)).replace("/", "."), path.stem)
        found[script.sha] = [str(part) for part, body in bodies.items() if body in script.script]
    return found


@asynccontextmanager
async def service(server: Server, client: Redis, models_dir: Path) -> AsyncIterator[tuple[str, int]]:
    """An ingest and a consumer in this process, and the address."""
    consumer = ConsumerSettings(redis_url=server.url, models_dir=models_dir, version="1", provider="cpu")
    ingest = IngestSettings(redis_url=server.url, workers=1, decode_threads=1)
    worker = Worker(await load_model(ModelLoader(consumer)), consumer, Health(consumer.lease_s), name="traced")
    running = asyncio.create_task(worker.run())
    await eventually(lambda: client.exists(TINY.alive), "the consumer is ready")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(create_app(ingest), http=HttpProtocol, ws="none", log_config=None)
        http = uvicorn.Server(config)
        serving = asyncio.create_task(http.serve(sockets=[listening]))
        try:
            yield listening.getsockname()
        finally:
            http.should_exit = True
            await serving
            worker.stop()
            await running


async def classify(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: bytes) -> None:
    """Send a JPEG over a connection that stays open."""
    head = f"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Type: image/jpeg\r\nContent-Length: {len(file)}\r\n\r\n"
    writer.write(head.encode() + file)
    response = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert response.startswith("http/1.1 200 "), response
    await reader.readexactly(int(response.partition("content-length: ")[2].partition("\r\n")[0]))


async def test_one_jpeg_request_passes_few_files(server: Server, client: Redis, models_dir: Path) -> None:
    """From the socket to the model and back. Each file is one more that a newcomer has to open."""
    file = encoded(scene(64, 48), "JPEG")
    with files_that_run() as ran:
        async with service(server, client, models_dir) as address:
            reader, writer = await asyncio.open_connection(*address)
            passed = []
            for _ in range(_REQUESTS):
                ran.clear()
                await classify(reader, writer, file)
                passed.append(ran.copy())
            writer.close()
    # The first request warms up.
    always = {path.removeprefix(f"{ROOT}/") for path in set.intersection(*passed[1:])}
    assert {"ingest/images/jpeg.py", "stream/scripts/admit.lua", "consumers/inference.py"} <= always
    assert len(always) <= MAX_FILES, sorted(always)
