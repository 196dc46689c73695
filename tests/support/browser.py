"""A real browser for the tests of the page: headless Chromium, what it logged, and what it asked for.

It needs Debian's packages chromium and chromium-driver; where one is missing, the tests are skipped with the reason.
axe-core comes in a Python package, of which nothing else is used: no test needs Node.js.
"""

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

_AXE = resources.files("axe_playwright_python") / "axe.min.js"

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # A camera of its own, that shows a moving pattern, and no question to the user whether the page may see it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)

#: What a page does when files are dropped on an element: the same events as from a file manager.
_DROP = """
const [target, files] = arguments, transfer = new DataTransfer();
for (const [name, data] of files) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: name.endsWith(".pdf") ? "application/pdf" : "image/png"}));
}
const event = (name) => name === "paste"
    ? new ClipboardEvent(name, {bubbles: true, cancelable: true, clipboardData: transfer})
    : new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: transfer});
for (const name of arguments[2]) document.querySelector(target).dispatchEvent(event(name));
"""


def missing() -> str:
    """What is not there of all that the tests need; empty where all is."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


#: For the tests that need a browser.
needed = pytest.mark.skipif(bool(missing()), reason=f"the tests of the page need {missing()}")


class Browser:
    """One page in one browser."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        # The page before may still try to reconnect: it has to be gone before what it left is read away.
        self.driver.get("about:blank")
        self.complaints(), self.requests()
        self.driver.get(url)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        return [str(text) for text in self.run(script, selector)]

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        self.driver.find_element("css selector", selector).send_keys(text)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def drop(self, files: Mapping[str, bytes], *, on: str = "#drop") -> None:
        self._give(files, on, ["dragenter", "dragover", "drop"])

    def paste(self, files: Mapping[str, bytes]) -> None:
        self._give(files, "body", ["paste"])

    def _give(self, files: Mapping[str, bytes], target: str, events: list[str]) -> None:
        # Pairs: the driver would sort an object's names.
        encoded = [(name, base64.b64encode(data).decode()) for name, data in files.items()]
        self.run(_DROP, target, encoded, events)

    def complaints(self) -> list[str]:
        """What the console says of errors, but for answers that are no 2xx: the page shows those."""
        return [
            line["message"]
            for line in self._lines("browser")
            if line["level"] == "SEVERE" and line["source"] != "network"
        ]

    def _lines(self, log: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(log))  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The URLs that were asked for since the last call, blobs and data aside."""
        events = [json.loads(line["message"])["message"] for line in self._lines("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")]

    def violations(self) -> list[str]:
        """What axe-core finds: rules of WCAG 2.2 A and AA, and its best practices."""
        self.run(_AXE.read_text())
        # Colours on their way from one scheme to the other have the contrast of neither.
        found = self.driver.execute_async_script(
            "Promise.all(document.getAnimations().map((one) => one.finished)).then(() => axe.run()).then(arguments[0])"
        )
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The page's own size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in this folder."""
    options = ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
