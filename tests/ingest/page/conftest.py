"""One browser for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.support import browser
from tests.support.browser import Browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
