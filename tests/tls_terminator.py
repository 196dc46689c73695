"""A TLS terminator before a plain server, as stunnel is one: for servers that were built without TLS.

`python -m tests.tls_terminator PORT TO_PORT CERTIFICATE KEY [CLIENTS_AUTHORITY]`, both ports on this machine.
"""

import asyncio
import ssl
import sys
from contextlib import suppress


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
