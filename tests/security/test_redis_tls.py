"""TLS to Redis with an authority of one's own: the service works, and trusts nobody else.

Against a server that speaks TLS itself, where the machine has one (the redis-server of Debian does), and everywhere
against a TLS terminator before the embedded one.
"""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream.connection.clients import connect
from stream.settings import RedisSettings
from tests.ingest.test_app import png, ranked
from tests.support.processes import Processes
from tests.support.redis import tls_terminator
from tests.support.redis.certificates import Authority, Pair
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PASSWORD = "a-password-for-this-test"  # noqa: S105


def speaks_tls(program: str | None) -> bool:
    """Whether a server was built with OpenSSL."""
    return program is not None and b"SSL_CTX_new" in Path(program).read_bytes()


@dataclass(frozen=True, slots=True)
class Secured:
    """A server behind TLS at this port of 127.0.0.1; `authority` has signed its certificate."""

    port: int
    authority: Authority
    client: Pair
    demands_certificate: bool

    def url(self, *, scheme: str = "rediss", host: str = "127.0.0.1", own: bool | None = None) -> str:
        """The server's URL, with a client certificate where the server demands one, or as `own` says."""
        own = self.demands_certificate if own is None else own
        options = f"?ssl_certfile={self.client.certificate}&ssl_keyfile={self.client.key}" if own else ""
        return f"{scheme}://:{PASSWORD}@{host}:{self.port}/0{options}"


@pytest.fixture(
    scope="module",
    params=[
        "terminator",
        "terminator, mutual",
        *(["server", "server, mutual"] if speaks_tls(shutil.which("redis-server")) else []),
    ],
)
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server behind TLS."""
    what, _, mutual = request.param.partition(", ")
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    own, client = authority.issue("server", address="127.0.0.1"), authority.issue("client")
    start = _terminated if what == "terminator" else _native
    yield from start(folder, authority, own, client, mutual=bool(mutual))


def _terminated(folder: Path, authority: Authority, own: Pair, client: Pair, *, mutual: bool) -> Iterator[Secured]:
    plain = Server(folder, password=PASSWORD, options={"requirepass": PASSWORD})
    plain.start()
    terminator, port = tls_terminator.start(folder, plain.port, own, clients=authority.file if mutual else None)
    yield Secured(port, authority, client, mutual)
    terminator.kill()
    plain.kill()


def _native(folder: Path, authority: Authority, own: Pair, client: Pair, *, mutual: bool) -> Iterator[Secured]:
    port = free_port()
    options = {"port": "0", "tls-port": str(port), "tls-ca-cert-file": str(authority.file), "requirepass": PASSWORD,
               "tls-cert-file": str(own.certificate), "tls-key-file": str(own.key),
               "tls-auth-clients": "yes" if mutual else "no"}  # fmt: skip
    server = Server(folder, kind="redis7", options=options)
    secured = Secured(port, authority, client, mutual)
    server.url = f"{secured.url(own=True)}&ssl_ca_certs={authority.file}"
    server.start()
    yield secured
    server.kill()


def test_a_client_proves_itself_where_it_must(secured: Secured, processes: Processes) -> None:
    """By a certificate that the URL names; the server refuses clients without one."""
    given: dict[str, Any] = {"redis_url": secured.url(own=False), "redis_ca_file": secured.authority.file}
    look = processes.start("consumers.status", redis_timeout_s=1, **given)
    assert look.wait() == (2 if secured.demands_certificate else 1)
    assert ("no consumer has announced a model" in look.text) != secured.demands_certificate


def test_over_tls_the_service_works(secured: Secured, processes: Processes) -> None:
    """Both sides, with the authority from a file and no password in the environment's URL."""
    given: dict[str, Any] = {"redis_url": secured.url(), "redis_ca_file": secured.authority.file}
    processes.consumer(version=1, **given)
    _, url = processes.ingest(**given)
    (image,) = random_images(1)
    assert httpx.post(f"{url}/predict", content=png(image)).json()["predictions"] == ranked(image)


@pytest.mark.parametrize("lie", ["another authority", "the system's authorities", "another name", "no TLS"])
async def test_nobody_else_is_trusted(secured: Secured, tmp_path: Path, lie: str) -> None:
    """A server that cannot prove that it is the one meant gets no password and no image. The error says what to do."""
    trusted = str(secured.authority.file)
    url, file, advice = {
        "another authority": (secured.url(), str(Authority(tmp_path).file), "Set redis_ca_file"),
        "the system's authorities": (secured.url(), "", "Set redis_ca_file"),
        "another name": (secured.url(host="localhost"), trusted, "Name the server in redis_url as its certificate"),
        "no TLS": (secured.url(scheme="redis", own=False), trusted, "Then redis_url begins with rediss://"),
    }[lie]
    with pytest.raises(RedisConnectionError, match=advice) as refused:
        await _ping(RedisSettings(redis_url=url, redis_ca_file=file))
    assert ("CERTIFICATE_VERIFY_FAILED" in str(refused.value)) == (lie != "no TLS")
    await _ping(RedisSettings(redis_url=secured.url(), redis_ca_file=trusted))


async def test_a_server_without_tls_is_suspected(own_server: Server) -> None:
    """It waits for the end of a command that never comes. After an answer, an outage is an outage."""
    with pytest.raises(RedisTimeoutError, match="If not, redis_url begins with redis://"):
        await _ping(RedisSettings(redis_url=own_server.url.replace("redis:", "rediss:"), redis_timeout_s=0.2))
    async with connect(RedisSettings(redis_url=own_server.url)) as client:
        await client.ping()
        own_server.kill()
        with pytest.raises(RedisConnectionError) as outage:
            await client.ping()
    assert "TLS" not in str(outage.value)


async def test_the_password_comes_from_a_file(secured: Secured, tmp_path: Path) -> None:
    """With or without a line's end; one in the URL wins."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    url = secured.url().replace(f":{PASSWORD}@", "")
    ca = str(secured.authority.file)
    await _ping(RedisSettings(redis_url=url, redis_ca_file=ca, redis_password_file=str(file)))
    file.write_text("wrong")
    await _ping(RedisSettings(redis_url=secured.url(), redis_ca_file=ca, redis_password_file=str(file)))
    with pytest.raises(RedisConnectionError):
        await _ping(RedisSettings(redis_url=url, redis_ca_file=ca, redis_password_file=str(file)))


async def _ping(settings: RedisSettings) -> None:
    try:
        async with connect(settings) as client:
            assert await client.ping()
    finally:
        await eventually(_all_is_closed, "a refused connection is closed as well")


async def _all_is_closed() -> bool:
    """Whether the loop watches nothing but its own wake-up: redis-py does not wait for a broken connection's end."""
    loop: Any = asyncio.get_running_loop()
    return len(loop._selector.get_map()) == 1


@pytest.mark.parametrize("setting", ["redis_ca_file", "redis_password_file"])
def test_a_file_that_is_not_there_is_said_at_once(setting: str, processes: Processes) -> None:
    """Not as an outage of Redis, for ever."""
    process = processes.start("ingest", port=0, **{setting: "/nowhere/file"})
    assert process.wait() == 2
    assert "there is no file /nowhere/file" in process.text
