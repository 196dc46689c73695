"""The services of compose.yaml, for the tests that run them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.running import MODEL, Containers, made_users
from tests.support.models import tiny_model
from tests.support.redis.servers import Server


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    """With a Redis that has loaded the users which the service of that name makes."""
    tiny_model.build(tmp_path / "models", name=MODEL)
    users = made_users(tmp_path)
    server = Server(tmp_path, options={"aclfile": str(users / "redis" / "users.acl")})
    server.start()
    started = Containers(tmp_path, users=users, redis_port=server.port)
    yield started
    started.kill()
    server.kill()
