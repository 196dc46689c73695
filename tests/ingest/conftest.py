"""A server that takes uploads, for the tests of what can be wrong with them."""

from collections.abc import Iterator

import pytest

from tests.support.upload_server import UploadServer, serve


@pytest.fixture(scope="module")
def site() -> Iterator[UploadServer]:
    with serve() as served:
        yield served
        assert served.mistakes == []
