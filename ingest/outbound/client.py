"""The HTTP client for servers that a client named.

httpcore makes the requests. It knows no redirects, cookies, credentials, proxies or environment variables, and it
decompresses nothing. Its network backend is the only place where a connection begins. There the name is resolved once,
all its addresses are checked, and the connection is made to one of exactly these. TLS checks the certificate for the
name.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

import httpcore
import httpx

from ingest.outbound.addresses import Address
from ingest.outbound.policy import Policy, parse_address

#: Resolves a name to addresses; raises OSError or UnicodeError if there are none.
Resolve = Callable[[str], Awaitable[Sequence[Address]]]

#: A name is resolved in a thread, and a slow DNS server holds it. Others wait for a free one within their own limits.
_RESOLVER_THREADS: Final = 8

#: Seconds that an idle connection is kept for the next request to the same server.
_IDLE_S: Final = 5.0

_USER_AGENT: Final = "sluice"

#: One message for both, so that no client learns which private names exist.
_NO_ADDRESS: Final = "its host is unknown, or has no public address"


class Unreachable(Exception):
    """The server gave no response; the message says why, as the end of a sentence."""


class Unavailable(Unreachable):
    """The server gave no response this time. It may give one later."""


class AddressRefused(Unreachable):
    """The server has no address that may be reached."""


class _Refused(httpcore.ConnectError):
    """AddressRefused on its way through httpcore."""


class SystemResolver:
    """Resolves names as the system does."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> list[Address]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host)
        return [address for text in dict.fromkeys(found) if (address := parse_address(text))]


def _getaddrinfo(host: str) -> list[str]:
    # A zone, as in fe80::1%eth0, makes no difference: such an address is refused.
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the policy allows, and to nothing else."""

    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore's; raises httpcore.ConnectError if the policy allows none of the addresses."""
        error: Exception = _Refused()
        for address in await self._addresses(host):
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def _addresses(self, host: str) -> Sequence[Address]:
        """All addresses of the host. One that is refused spoils all: a public server does not have it."""
        try:
            literal = parse_address(host)
            addresses = [literal] if literal else await self._resolve(host)
        except (OSError, UnicodeError) as error:
            raise _Refused from error
        return addresses if all(map(self._policy.allows, addresses)) else ()


class OutboundClient:
    """Sends requests to servers that the policy allows, over at most `connections` connections."""

    def __init__(self, policy: Policy, *, connections: int, resolve: Resolve | None = None) -> None:
        self.policy = policy
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_IDLE_S,
            network_backend=CheckedBackend(policy, resolve or SystemResolver()),
        )

    @asynccontextmanager
    async def request(
        self, method: str, url: httpx.URL, *, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpcore.Response]:
        """The response, whose body is not read yet. Redirects are not followed; the caller limits the time.

        Raises Unreachable, also for errors while the caller reads the body.
        """
        own = {"Host": url.netloc.decode("ascii"), "User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
        sent = [(name.encode(), value.encode()) for name, value in (own | dict(headers)).items()]
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        try:
            async with self._pool.stream(method, target, headers=sent, content=content) as response:
                yield response
        except _Refused as error:
            raise AddressRefused(_NO_ADDRESS) from error
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise Unavailable("its server did not answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            raise _unreachable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _unreachable(error: Exception) -> Unreachable:
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable("its server has no valid certificate for its name")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return Unreachable(f"its server speaks no TLS, or none that is accepted ({cause.reason})")
        cause = cause.__cause__ or cause.__context__
    return Unavailable(f"its server could not be reached, or broke off ({type(error).__name__})")


def _tls() -> ssl.SSLContext:
    """The authorities of certifi, or those that SSL_CERT_FILE or SSL_CERT_DIR name."""
    return httpx.create_ssl_context()
