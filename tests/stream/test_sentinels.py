"""Sentinels that ask for a password of their own, and speak TLS."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.connection.clients import connect
from stream.settings import RedisSettings
from tests.ingest.test_app import png, ranked
from tests.security.test_redis_tls import speaks_tls
from tests.support.processes import Process, Processes
from tests.support.redis import tls_terminator
from tests.support.redis.certificates import Authority, Pair
from tests.support.redis.clusters import Watched
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import binary, free_port, listens
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

SERVERS, SENTINELS = "of-the-servers", "of-the-sentinels"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched"), password=SERVERS, sentinel_password=SENTINELS) as watched:
        yield watched


def url(addresses: str, query: str = "", *, scheme: str = "redis") -> str:
    return f"{scheme}+sentinel://:{SERVERS}@{addresses}/{Watched.SERVICE}{query}"


def test_the_service_follows_sentinels_that_ask_for_a_password(
    watched: Watched, models_dir: Path, tmp_path: Path
) -> None:
    """From a file, both of them; the primary fails, and its replica is found. No log shows a password."""
    files = {"redis_password_file": SERVERS, "redis_sentinel_password_file": SENTINELS}
    for name, password in files.items():
        (tmp_path / name).write_text(password)
    settings: dict[str, Any] = {name: tmp_path / name for name in files}
    settings |= {"lease_s": 2, "redis_timeout_s": 1, "log_level": "debug"}
    with Processes(tmp_path, redis_url=watched.url, models_dir=models_dir) as processes:
        consumer = processes.consumer(version=1, **settings)
        ingest, base = processes.ingest(**settings)
        (image,) = random_images(1)
        assert httpx.post(f"{base}/predict", content=png(image)).json()["predictions"] == ranked(image)
        watched.primary.kill()
        wait_until(lambda: httpx.get(f"{base}/readyz").status_code == 503, "the primary is unavailable")
        wait_until(lambda: httpx.get(f"{base}/readyz").status_code == 200, "its replica has taken over")
        assert httpx.post(f"{base}/predict", content=png(image)).json()["predictions"] == ranked(image)
        assert not [word for word in (SERVERS, SENTINELS) if word in consumer.text + ingest.text]
        watched.primary.start()
        wait_until(lambda: watched.primary.info("replication", "role") == "slave", "it is a replica now")


async def test_the_password_of_the_sentinels_may_stand_in_the_url(watched: Watched, tmp_path: Path) -> None:
    """There it wins over the file."""
    file = tmp_path / "password"
    file.write_text("wrong")
    given = url(watched.addresses, f"?sentinel_password={SENTINELS}")
    async with connect(RedisSettings(redis_url=given, redis_sentinel_password_file=str(file))) as client:
        assert await client.ping()


@pytest.mark.parametrize(
    ("query", "said"),
    [("", "Authentication required"), ("?sentinel_password=not-theirs", "invalid username-password pair")],
)
async def test_sentinels_that_refuse_are_no_riddle(watched: Watched, query: str, said: str) -> None:
    """Their replies are reported, and no password."""
    with pytest.raises(RedisConnectionError, match=said) as refused:
        async with connect(RedisSettings(redis_url=url(watched.addresses, query))) as client:
            await client.ping()
    assert not [word for word in (SERVERS, "not-theirs") if word in str(refused.value)]


@pytest.fixture(params=["terminator", *(["server"] if speaks_tls(shutil.which("redis-server")) else [])])
def over_tls(request: pytest.FixtureRequest, watched: Watched, tmp_path: Path) -> Iterator[tuple[str, Authority]]:
    """A URL of Sentinels that are asked over TLS, and who has signed their certificate."""
    authority = Authority(tmp_path)
    own = authority.issue("server", address="127.0.0.1")
    if request.param == "server":
        yield from _all_over_tls(tmp_path, own, authority)
        return
    before = [tls_terminator.start(tmp_path, sentinel.port, own) for sentinel in watched.sentinels]
    addresses = ",".join(f"127.0.0.1:{port}" for _, port in before)
    yield url(addresses, f"?sentinel_tls=yes&sentinel_password={SENTINELS}"), authority
    for terminator, _ in before:
        terminator.kill()


def _all_over_tls(folder: Path, own: Pair, authority: Authority) -> Iterator[tuple[str, Authority]]:
    """The server that the Sentinel names speaks nothing else, either."""
    port, sentinel_port = free_port(), free_port()
    tls = {"tls-cert-file": own.certificate, "tls-key-file": own.key, "tls-ca-cert-file": authority.file,
           "tls-auth-clients": "no", "tls-replication": "yes",
           "port": 0, "bind": "127.0.0.1", "dir": folder}  # fmt: skip
    of = Watched.SERVICE
    watching = {f"sentinel monitor {of} 127.0.0.1": f"{port} 1", f"sentinel auth-pass {of}": SERVERS}
    started = [
        _redis(folder / "server.conf", {**tls, "tls-port": port, "requirepass": SERVERS, "save": '""'}),
        _redis(
            folder / "sentinel.conf", {**tls, "tls-port": sentinel_port, "requirepass": SENTINELS, **watching},
            "--sentinel",
        ),
    ]  # fmt: skip
    for one in (port, sentinel_port):
        wait_until(lambda one=one: listens(one), f"a server listens, see {folder}")  # type: ignore[misc]
    yield url(f"127.0.0.1:{sentinel_port}", f"?sentinel_password={SENTINELS}", scheme="rediss"), authority
    for process in started:
        process.kill()


def _redis(file: Path, options: dict[str, object], *words: str) -> Process:
    file.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    return Process([str(binary("redis7")), str(file), *words], dict(os.environ), file.with_suffix(".log"))


async def test_sentinels_are_asked_over_tls(over_tls: tuple[str, Authority]) -> None:
    """Where the servers are, and where the URL says so; an authority that is not ours is not believed."""
    given, authority = over_tls
    async with connect(RedisSettings(redis_url=given, redis_ca_file=str(authority.file))) as client:
        assert await client.ping()
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        async with connect(RedisSettings(redis_url=given)) as client:
            await client.ping()
