"""Servers that live for a module of tests, none of which changes them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inference_protocol import Service, serving
from tests.support.processes import on_own_server
from tests.support.upload_server import UploadServer, serve


@pytest.fixture(scope="module")
def site() -> Iterator[UploadServer]:
    """A server that takes uploads, for the tests of what can be wrong with them."""
    with serve() as served:
        yield served
        assert served.mistakes == []


@pytest.fixture(scope="module")
def url(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one ingest and one consumer of the tiny model. No test empties their Redis."""
    with on_own_server(tmp_path_factory.mktemp("service"), models_dir) as processes:
        processes.consumer(version=1)
        yield processes.ingest()[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One ingest and two models, for the inference protocols."""
    with serving(tmp_path_factory.mktemp("service")) as service:
        yield service
