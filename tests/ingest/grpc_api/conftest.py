"""A service that speaks gRPC and lives for a module of tests, none of which changes it."""

from collections.abc import Iterator

import pytest

from tests.support.grpc_service import GrpcService, serving_grpc


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcService]:
    with serving_grpc(tmp_path_factory.mktemp("service")) as service:
        yield service
