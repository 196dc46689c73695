"""The services of compose.yaml and the manifests for Kubernetes, for the tests that use them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.cluster import OVERLAYS
from tests.deploy.running import MODEL, Containers, made_users
from tests.support.manifests import K8S, Manifest, built
from tests.support.models import tiny_model
from tests.support.redis.servers import Server


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    """With a Redis that has loaded the users which the service of that name makes."""
    tiny_model.build(tmp_path / "models", name=MODEL)
    users = made_users(tmp_path)
    server = Server(tmp_path, options={"aclfile": str(users / "redis" / "users.acl")})
    server.url = server.url.replace("//", "//health:any@")
    server.start()
    started = Containers(tmp_path, users=users, redis_port=server.port)
    yield started
    started.kill()
    server.kill()


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> dict[tuple[str, str], Manifest]:
    return built(K8S / "overlays" / request.param)
