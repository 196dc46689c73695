"""Fixtures that many tests share: a real server, names of one's own in it, and processes that end with the test."""

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from stream.connection.clients import connect
from stream.connection.group_reader import Reader
from stream.keys import Partition
from stream.settings import IngestSettings, RedisSettings
from tests.support.models import lite0, tiny_model
from tests.support.models.lite0 import Exported
from tests.support.processes import Processes
from tests.support.redis.servers import Server

#: Keys without a time to live that may remain; everything else must expire or be gone. See stream/keys.py.
_PERMANENT = re.compile(
    r".*:(entries(:bulk)?(:v[0-9]+)?|dead_letters|holders|alive|consumers|versions|wanted_versions|counters"
    r"|webhooks|dead_webhooks)"
)
_SHARED = ("sluice:{all}:models", "sluice:{all}:requests", "sluice:{all}:releases", "sluice:{all}:loads")


#: Files that take longer than others, the longest first.
_LONGEST = (
    "ingest/page/test_page.py",
    "sluice/test_serve.py",
    "export/test_matrix.py",
    "sluice/test_measured_serve.py",
    "docs/test_shown_commands.py",
    "ingest/images/test_hostile_files.py",
    "stream/test_cluster.py",
    "system/test_partitions.py",
    "export/test_command.py",
    "docs/test_more_examples.py",
    "ingest/dispatch/test_cache.py",
    "ingest/test_outages.py",
    "consumers/test_recovery.py",
    "consumers/test_reload.py",
    "security/test_redis_acl.py",
    "ingest/images/test_loaders.py",
    "ingest/images/test_decode.py",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """httpx reads all certificate authorities before each request, for 20 ms of CPU; here it asks nobody by TLS."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("SSL_CERT_FILE", raising=False)
        environment.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("authorities")))
        yield


@pytest.fixture(scope="session", autouse=True)
def servers_that_keep_nothing() -> Iterator[None]:
    """Most servers of the suite have no append-only file, which the default durability would complain about."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLUICE_DURABILITY", "memory")
        yield


@pytest.fixture(scope="session", autouse=True)
def runs_listed_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of `sluice serve` are listed in a folder of their user; those of the suite are not."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell's job in the background ignores SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_log_handler_stays() -> Iterator[None]:
    """A command that runs in this process logs to the standard error of its test, which is closed afterwards."""
    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def any_server() -> None:
    """What a fixture asks for if its tests are to run against each kind of server; see `make test-matrix`."""


@pytest.fixture(scope="session")
def server(any_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not kill theirs."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_server(any_server: None, tmp_path: Path) -> Iterator[Server]:
    """A server for one test to kill: it writes each command to its append-only file before it answers."""
    server = Server(tmp_path, options={"appendonly": "yes", "appendfsync": "always"})
    server.start()
    yield server
    server.kill()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where an embedded server keeps its data."""
    return tmp_path / "data"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Processes]:
    """Starts embedded servers (tests/support/redis/embedded.py), and ends them."""
    with Processes(tmp_path, redis_url="", models_dir=tmp_path) as started:
        yield started
        started.stop_all()


@pytest.fixture(autouse=True)
def no_key_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, every key it left is one of the permanent ones or expires."""
    yield
    if "server" not in request.fixturenames:
        return
    with redis.Redis.from_url(request.getfixturevalue("server").url) as client:
        names = [name.decode() for name in client.scan_iter("sluice:*", count=1000)]
        with client.pipeline(transaction=False) as asked:
            for name in names:
                asked.ttl(name)
            lives = asked.execute()
        leaked = [
            name
            for name, ttl_s in zip(names, lives, strict=True)
            if ttl_s == -1 and not _PERMANENT.fullmatch(name) and name not in _SHARED
        ]
        client.flushall()
    assert not leaked, f"keys that never expire: {leaked}"


@pytest.fixture
def settings(server: Server) -> RedisSettings:
    """Defaults, but for the server, and for time on a busy machine."""
    return RedisSettings(redis_url=server.url, redis_timeout_s=5.0)


@pytest.fixture
def ingest_settings(server: Server) -> IngestSettings:
    """The same for ingest."""
    return IngestSettings(redis_url=server.url, redis_timeout_s=5.0)


@pytest.fixture
async def client(settings: RedisSettings) -> AsyncIterator[Redis]:
    async with connect(settings) as client:
        yield client


@pytest.fixture
async def reader(settings: RedisSettings) -> AsyncIterator[Reader]:
    async with Reader(settings) as reader:
        yield reader


@pytest.fixture
def partition(request: pytest.FixtureRequest) -> Partition:
    """A partition that no other test uses."""
    return Partition(f"{request.node.originalname[:60]}-{os.getpid()}")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the suite share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one tiny model in two versions that answer differently."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder, version="1")
    tiny_model.build(folder, version="2", seed=8)
    return folder


@pytest.fixture(scope="session")
def exported_lite0(run_folder: Path) -> Exported:
    """A real classifier, exported once for all tests that only use it."""
    return lite0.exported_once(run_folder)


@pytest.fixture
def processes(server: Server, models_dir: Path, tmp_path: Path) -> Iterator[Processes]:
    """A factory of ingest and consumer processes on the shared server."""
    with Processes(tmp_path, redis_url=server.url, models_dir=models_dir) as started:
        yield started


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what talks to a server, so that `make test-matrix` repeats just that against the others."""
    for item in items:
        if "any_server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
    if hasattr(config, "workerinput"):
        _put_longest_first(items)


def _put_longest_first(items: list[pytest.Item]) -> None:
    """So that no worker of xdist has a long file left when the others are done.

    Then come the files with the fewest tests: the fewer they are, the more each does.
    """
    counts = Counter(item.path for item in items)

    def order(item: pytest.Item) -> tuple[int, int, str]:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST), counts[item.path], name

    items.sort(key=order)
