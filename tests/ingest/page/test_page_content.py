"""What the page offers and says: a sample, the labels, files that cannot be classified, figures of all processes."""

import httpx
import pytest
import redis

from stream.keys import RELEASES
from stream.releases import Release
from tests.ingest.page.test_page import IMAGES, LEASE_S, cards, watched
from tests.ingest.test_app import png
from tests.support import browser
from tests.support.browser import Browser
from tests.support.processes import Processes
from tests.support.redis.requests_direct import random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

_MISSING = browser.missing()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(_MISSING), reason=f"the tests of the page need {_MISSING}"),
]


def test_a_file_that_cannot_be_classified_says_so(processes: Processes, chromium: Browser) -> None:
    """A PDF is not sent. A damaged image is not offered to be sent again, because it would fail again."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        page.drop({"notes.pdf": b"%PDF-1.7"})
        wait_until(lambda: "Not an image" in page.text(".card .failed"), "the PDF is refused by the page")
        page.drop({"broken.png": png(IMAGES[0])[:60]})
        wait_until(lambda: "Damaged image" in page.text(".card .failed"), "the damaged image is refused")
        assert page.texts(".card .failed button") == []


def test_a_sample_and_the_labels_are_at_hand(processes: Processes, chromium: Browser) -> None:
    """A person without an image can try the service, and see what the model can tell apart."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        page.click("#sample")
        wait_until(lambda: [len(labels) for labels in cards(page)] == [5], "the sample has its labels")
        page.click("#show-labels")
        wait_until(lambda: len(page.texts("#labels-list li")) == 10, "all labels are listed")
        page.type("#labels-filter", "7")
        assert page.texts("#labels-list li") == ["class 7"]
        assert page.text("#labels-note") == "1 of 10 labels"
        assert page.violations() == []
        page.click("#labels-close")


def test_the_banner_ends_when_a_replacement_works(processes: Processes, chromium: Browser) -> None:
    """A dead consumer that holds nothing is no problem once as many consumers are alive as before."""
    doomed = processes.consumer(version=1, lease_s=LEASE_S)
    processes.consumer(version=1, lease_s=LEASE_S)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        wait_until(lambda: len(page.texts("#consumers tr")) == 2, "both are listed")
        doomed.kill()
        wait_until(lambda: "died" in page.text("#trouble"), "the banner is there")
        processes.consumer(version=1, lease_s=LEASE_S)
        wait_until(lambda: page.text("#trouble") == "", "the banner is gone")
        assert page.texts("#consumers tr.dead")


def test_the_figures_are_those_of_all_processes(processes: Processes, chromium: Browser) -> None:
    """Two ingests, each with two workers: the page of one counts what all of them returned."""
    processes.consumer(version=1)
    urls, image = [processes.ingest(workers=2)[1] for _ in range(2)], png(IMAGES[0])
    for number in range(12):
        assert httpx.post(f"{urls[number % 2]}/predict", content=image, timeout=30).status_code == 200
    for url in urls:
        with watched(chromium, url) as page:
            wait_until(lambda: "12 succeeded" in page.text("#tile-responses"), "all responses are counted")


def test_a_release_has_a_panel(processes: Processes, chromium: Browser, server: Server) -> None:
    """It comes and goes with the release, and says who takes what."""
    for version in (1, 2):
        processes.consumer(version=version)
    _, url = processes.ingest()
    with watched(chromium, url) as page, redis.Redis.from_url(server.url) as client:
        wait_until(lambda: len(page.texts("#consumers tr")) == 2, "both are listed")
        assert page.texts("#release-figures li") == []
        client.hset(RELEASES, "tiny", Release("1", "2", share=0.05).encode())
        wait_until(lambda: page.text("#release-note") == "version 2 is on trial", "the panel is there")
        takes = "Version 2 takes 5 % of the requests, version 1 all others."
        assert page.texts("#release-figures li")[0] == takes
        page.click("#sample")

        def counted() -> bool:
            # Ingest reads releases once a second, so the sample may have come before.
            httpx.post(f"{url}/predict", content=png(random_images(1)[0]))
            return len(page.texts("#release-figures li")) == 2

        wait_until(counted, "a request is counted")
        assert page.violations() == []
        client.hdel(RELEASES, "tiny")
        wait_until(lambda: page.texts("#release-figures li") == [], "the panel has gone")
