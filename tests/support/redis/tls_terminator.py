"""A TLS terminator before a plain server, as stunnel is one: for servers that were built without TLS.

`python -m tests.support.redis.tls_terminator PORT TO_PORT CERTIFICATE KEY [CLIENTS_AUTHORITY]`,
both ports on this machine.
"""

import asyncio
import os
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.processes import Process
from tests.support.redis.certificates import Pair
from tests.support.redis.servers import free_port, listens
from tests.support.waiting import wait_until


def start(folder: Path, to_port: int, own: Pair, *, clients: Path | None = None) -> tuple[Process, int]:
    """A terminator that runs, with its log in this folder, and its port."""
    port = free_port()
    words = [str(port), str(to_port), str(own.certificate), str(own.key), *([str(clients)] if clients else [])]
    command = [sys.executable, "-m", "tests.support.redis.tls_terminator", *words]
    process = Process(command, dict(os.environ), folder / f"terminator-{port}.log")
    wait_until(lambda: listens(port), "the terminator listens")
    return process, port


async def main(port: int, to_port: int, certificate: str, key: str, clients: str | None = None) -> None:
    """Serve until killed; with `clients`, only those whose certificate that authority has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
