"""The API reference in a real browser: it shows every operation, and its forms send real requests."""

from pathlib import Path

import httpx
import pytest

from tests.ingest.test_app import png
from tests.support import browser
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, browser.needed]


def test_every_operation_is_shown_and_can_be_tried(processes: Processes, tmp_path: Path) -> None:
    """In groups. An image gets its labels. No other server is asked, the console is silent, axe-core finds nothing."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    path = tmp_path / "cat.png"
    (image,) = random_images(1)
    path.write_bytes(png(image))
    documented = httpx.get(f"{url}/openapi.json").json()["paths"]
    (tmp_path / "chromium").mkdir()
    with browser.chromium(tmp_path / "chromium") as page:
        page.open(f"{url}/docs")
        wait_until(lambda: page.texts(".operation summary code"), "the operations are there")
        assert sorted(page.texts(".operation summary code")) == sorted(
            f"{method.upper()} {path}" for path, methods in documented.items() for method in methods
        )
        groups = ["Predict", "Results", "Models", "Open Inference Protocol", "TensorFlow Serving", "Operations",
                  "Page and reference"]  # fmt: skip
        assert page.texts("#operations h2") == page.texts("#groups a") == groups
        # Without a space, a narrow screen breaks the first word after the path.
        assert page.text("#post_predict summary") == "POST /predict Classify images"
        page.click("#post_predict summary")
        page.type("#post_predict [name=top]", "2")
        page.type("#post_predict [type=file]", str(path))
        page.click("#post_predict [type=submit]")
        wait_until(lambda: page.text("#post_predict pre.result").startswith("200"), "the image has its labels")
        assert page.text("#post_predict pre.result").count('"label"') == 2
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            assert page.violations() == [], scheme
        assert page.complaints() == []
        assert {one.split("/")[2] for one in page.requests()} == {url.removeprefix("http://")}
