"""A server with the Redis users that `python -m stream.acl` makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis.requests_direct import TINY
from tests.support.redis.servers import Server
from tests.support.redis.users import make_users, password


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("users")
    assert make_users(folder, "--model", TINY.model, "--scaler") == 0
    return folder


@pytest.fixture(scope="module")
def guarded(any_server: None, users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has loaded these users; its URL is the administrator's."""
    server = Server(tmp_path_factory.mktemp("server"), options={"aclfile": str(users / "redis" / "users.acl")})
    server.url = server.url.replace("//", f"//admin:{password(users, 'admin')}@")
    server.start()
    yield server
    server.kill()
