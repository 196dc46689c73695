"""The page in a real browser, against real processes: images get their labels, and problems are shown."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from selenium.webdriver import ActionChains, Keys

from stream.keys import MODELS
from stream.presence import HEARTBEAT_SHARE
from tests.ingest.test_app import png, ranked
from tests.support import browser
from tests.support.browser import Browser
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, marked
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, browser.needed]

LEASE_S = 2.0
#: Red, green and blue: images that the model tells apart.
IMAGES = [np.full((16, 16, 3), colour, np.uint8) for colour in ((230, 20, 20), (20, 230, 20), (20, 20, 230))]


@contextmanager
def watched(page: Browser, url: str) -> Iterator[Browser]:
    """The page, open and live; afterwards it has complained of nothing and asked nobody else."""
    page.open(url)
    wait_until(lambda: page.text("#connection") == "Live", "the page is live")
    try:
        yield page
    except AssertionError as error:
        error.add_note(f"The page says:\n{page.text('body')}\nand the console {page.complaints()}")
        raise
    asked = page.requests()
    assert page.complaints() == []
    assert asked
    assert {one.split("/")[2] for one in asked} == {url.removeprefix("http://")}


def best(image_number: int) -> list[object]:
    return [one["label"] for one in ranked(IMAGES[image_number])]


def cards(page: Browser) -> list[list[str]]:
    """The labels of each card, the newest first."""
    script = """return [...document.querySelectorAll(".card")].map((card) =>
        [...card.querySelectorAll(".labels .name")].map((one) => one.innerText.replaceAll(" ", "_")))"""
    return [list(labels) for labels in page.run(script)]


def test_images_are_dropped_pasted_chosen_and_taken(processes: Processes, chromium: Browser, tmp_path: Path) -> None:
    """Each way leads to a card with five labels, the stages' times, the model, and the same request as a command."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        page.drop({"one.png": png(IMAGES[0]), "it's two.png": png(IMAGES[1])})
        wait_until(lambda: cards(page) == [best(1), best(0)], "the labels of both are there")
        assert page.texts(".card-name") == ["it's two.png", "one.png"]
        stages = page.text(".card .stages")
        assert all(word in stages for word in ("decode", "queue", "inference", " ms", "tiny 1", "CPU", "batch of")), (
            stages
        )
        assert page.text("#curl") == f"""curl -F 'image=@"it'\\''s two.png"' {url}/predict"""
        page.paste({"three.png": png(IMAGES[2])})
        wait_until(lambda: cards(page)[0] == best(2), "the pasted one has its labels")
        (tmp_path / "chosen.png").write_bytes(png(IMAGES[0]))
        page.type("#files", str(tmp_path / "chosen.png"))
        wait_until(lambda: cards(page) == [best(0), best(2), best(1), best(0)], "the chosen one has its labels")
        page.click("#camera")
        wait_until(lambda: page.run("return document.querySelector('video').videoWidth"), "the camera shows something")
        page.click("#take")
        wait_until(lambda: len([labels for labels in cards(page) if len(labels) == 5]) == 5, "the taken one has labels")
        page.click("#leave")
        assert "Frame" not in page.run("return document.querySelector('#announcer').textContent")
        page.drop({"broken.png": png(IMAGES[0])[:60]})
        wait_until(lambda: "Damaged image" in page.text(".card .failed"), "a damaged one says so")
        wait_until(
            lambda: "6 succeeded" not in page.text("#tile-responses") and "succeeded" in page.text("#tile-responses"),
            "counted",
        )


def test_a_consumer_that_dies_turns_red_within_its_lease(
    processes: Processes, chromium: Browser, server: Server
) -> None:
    """Counted from the last heartbeat, and a banner says so. The other consumer continues."""
    # A heartbeat holds for three quarters of it, and a snapshot comes each second: the rest is for a busy machine.
    lease_s = 12
    doomed = processes.consumer(version=1, lease_s=lease_s)
    processes.consumer(version=1, lease_s=lease_s)
    _, url = processes.ingest()
    with redis.Redis.from_url(server.url) as client, watched(chromium, url) as page:
        wait_until(lambda: len(page.texts("#consumers tr")) == 2, "both are listed")
        doomed.kill()
        heartbeat_s = _holds_until_s(client, doomed.pid) - lease_s * HEARTBEAT_SHARE
        wait_until(lambda: page.texts("#consumers tr.dead"), "it turns red")
        assert time.time() - heartbeat_s < lease_s
        (row,) = page.texts("#consumers tr.dead")
        assert f"process {doomed.pid}" in row
        colour = page.run("return getComputedStyle(document.querySelector('tr.dead td')).color")
        red, green, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
        assert red > 2 * max(green, blue), colour
        assert "died: its heartbeat ended" in page.text("#trouble")
        assert page.run("return document.title").startswith("● Trouble")


def _holds_until_s(client: redis.Redis, pid: int) -> float:
    """Until when the last heartbeat of this process holds, in seconds of the clock."""
    alive: Any = client.zrange(TINY.alive, 0, -1, withscores=True)
    reports: Any = client.hgetall(TINY.consumers)
    return max(float(until_ms) / 1000 for name, until_ms in alive if json.loads(reports[name])["pid"] == pid)


def test_overload_shows_refusals_and_a_full_queue(processes: Processes, chromium: Browser) -> None:
    """In the banner, in the tiles, and on the card of an image that was refused. All of it is accessible."""
    consumer = processes.consumer(version=1, lease_s=300)
    _, url = processes.ingest(max_backlog=8)
    later = {"Prefer": "respond-async"}
    with httpx.Client(base_url=url, headers=later, timeout=30) as service, watched(chromium, url) as page:

        def refused() -> bool:
            return service.post("/predict?priority=interactive", content=png(IMAGES[0])).status_code == 503

        # It holds still, and for a lease no consumer can claim it: what is in the queue stays there.
        consumer.send(signal.SIGSTOP)
        wait_until(refused, "the queue is full")
        page.drop({"late.png": png(IMAGES[1])})
        wait_until(lambda: "Try again in" in page.text(".card[data-kind=refused]"), "the image is refused")
        wait_until(lambda: page.text("#tile-queue.bad [data-figure]") == "8", "the queue is shown to be full")
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            wait_until(lambda: refused() and "refused in the last 10" in page.text("#trouble"), "refusals are reported")
            assert "refused" in page.text("#tile-responses .note")
            assert page.violations() == []
        consumer.send(signal.SIGCONT)
        wait_until(lambda: page.text("#tile-queue [data-figure]") == "0", "the queue is empty again")


def test_a_poisonous_image_fails_on_its_card_and_can_be_replayed(
    processes: Processes, chromium: Browser, server: Server
) -> None:
    """With the reason, there and among the dead letters. The others are not affected."""
    processes.consumer(rogue="raise", version=1)
    _, url = processes.ingest()
    with redis.Redis.from_url(server.url) as client, watched(chromium, url) as page:
        page.drop({"poison.png": png(marked()), "one.png": png(IMAGES[0])})
        wait_until(lambda: "Inference failed" in page.text(".card .failed"), "the poisonous one says so")
        wait_until(lambda: best(0) in cards(page), "the other has its labels")
        wait_until(lambda: page.texts("#dead-letters li"), "the dead letter is listed")
        (reason,) = page.texts("#dead-letters li p")
        assert "the model fails on this image" in reason
        # Once more it is given up, as another dead letter.
        first = page.run("return document.querySelector('#dead-letters li').dataset.at")
        page.click("#dead-letters button")
        wait_until(lambda: client.hget(TINY.counters, "replayed") == b"1", "it is replayed")
        now = "return document.querySelector('#dead-letters li')?.dataset.at"
        wait_until(lambda: page.run(now) not in (None, first), "it is given up again")


def test_the_page_says_that_it_reconnects_and_does(processes: Processes, chromium: Browser) -> None:
    """An ingest that ends does not wait for those who watch it."""
    processes.consumer(version=1)
    ingest, url = processes.ingest()
    page = chromium
    page.open(url)
    wait_until(lambda: page.text("#connection") == "Live", "the page is live")
    began = time.monotonic()
    assert ingest.stop() == 0
    assert time.monotonic() - began < 5, "the grace is 20 s"
    wait_until(lambda: page.text("#connection") == "Reconnecting…", "the page says that it reconnects")
    assert page.text("#live-note") == "as it was before the outage"
    processes.start("ingest", port=url.rpartition(":")[2])
    wait_until(lambda: page.text("#live-note") == "all processes together", "the page is live again")


def test_a_model_that_is_no_longer_served_is_not_shown_first(
    processes: Processes, chromium: Browser, server: Server
) -> None:
    """It is listed as such, and is no trouble: another one is served."""
    with redis.Redis.from_url(server.url) as client:
        client.zadd(MODELS, {"abandoned": 1})
    processes.consumer(version=1)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        wait_until(lambda: page.texts("#models option") == ["abandoned (not served)", TINY.model], "both are listed")
        wait_until(lambda: "/predict/tiny" in page.text("#curl"), "the served one is chosen")
        assert not page.text("#trouble")
        page.run("models.value = 'abandoned'; models.dispatchEvent(new Event('change'))")
        wait_until(lambda: page.text("#trouble") == "abandoned is not served at present.", "the visitor's choice stays")
        assert page.run("return document.title") == "Sluice"
        with redis.Redis.from_url(server.url) as client:
            client.zrem(MODELS, "abandoned")
        wait_until(lambda: page.text("#serving").startswith(TINY.model), "the only model left is shown")


def test_figures_of_before_an_outage_do_not_look_like_the_present_ones(
    processes: Processes, own_server: Server, chromium: Browser
) -> None:
    """They are grey, and say what they are; a consumer that ran then is not green."""
    processes.consumer(version=1, redis_url=own_server.url)
    _, url = processes.ingest(redis_url=own_server.url)
    page = chromium
    page.open(url)
    wait_until(lambda: page.texts("#consumers td"), "the consumer is shown")
    assert page.text("#live-note") == "all processes together"
    own_server.kill()
    wait_until(lambda: "Redis does not answer" in page.text("#trouble"), "the outage is shown")
    wait_until(lambda: page.text("#live-note") == "as it was before the outage", "the figures say so")
    assert page.run("return getComputedStyle(document.querySelector('#live .panel')).filter") == "grayscale(1)"
    assert page.violations() == []
    own_server.start()
    wait_until(lambda: page.text("#live-note") == "all processes together", "the figures are those of now")


def test_the_browser_s_own_question_for_the_key_opens_all(processes: Processes, chromium: Browser) -> None:
    """What was typed there once comes with all that the page asks for, and is never shown."""
    key = "right-" + "k" * 40
    processes.consumer(version=1)
    _, url = processes.ingest(api_keys=f"alice:{key}")
    page = chromium
    page.open(url)
    assert page.text("#connection") == ""
    # No test can type into the browser's own window; an address with a name and a password answers it as well.
    page.open(f"{url.replace('//', f'//anybody:{key}@')}/page/icon.svg")
    page.open(url)
    wait_until(lambda: page.text("#connection") == "Live", "the page is live")
    page.drop({"one.png": png(IMAGES[0])})
    wait_until(lambda: cards(page) == [best(0)], "the labels are there")
    assert '-H "X-API-Key: $SLUICE_API_KEY"' in page.text("#curl")
    assert key not in page.run("return document.documentElement.outerHTML")
    assert page.run("return [localStorage.length, document.cookie]") == [0, ""]


def tab(page: Browser) -> str:
    """What the Tab key reaches next."""
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    return str(page.run("return document.activeElement.id || document.activeElement.className"))


def test_it_is_accessible(processes: Processes, chromium: Browser) -> None:
    """The keyboard reaches all. axe-core finds nothing, in light and dark, on desktop and phone, with problems."""
    doomed = processes.consumer(version=1, lease_s=LEASE_S)
    _, url = processes.ingest()
    with watched(chromium, url) as page:
        assert [tab(page) for _ in range(8)] == (
            ["skip", "files", "camera", "sample", "copy", "api", "show-labels", "scroll"]
        ), "in the order seen"
        page.drop({"one.png": png(IMAGES[0]), "broken.png": b"no image"})
        wait_until(lambda: len(page.texts(".card[aria-busy=false]")) == 2, "both are answered")
        doomed.kill()
        wait_until(lambda: page.texts("#consumers tr.dead"), "it turns red")
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            for width, phone in ((1280, False), (390, True)):
                page.resize(width, 900, phone=phone)
                assert page.violations() == [], (scheme, width)
                assert page.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
        page.resize(1280, 900)
