"""`make pictures`: the page in light and dark, and in trouble, taken from a running system, into docs/pictures/.

Starts a system of its own, gives it photographs and load, kills a consumer, and looks at it through headless Chromium.
"""

import io
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import skimage.data
from PIL import Image

from tests.browser import Browser, chromium
from tests.processes import ROOT, Processes
from tests.servers import Server
from tests.waiting import wait_until

MODEL = "efficientnet-lite0"
OUTPUT = ROOT / "docs" / "pictures"

#: The free photographs that scikit-image carries.
PHOTOGRAPHS = ("chelsea", "coffee")
CLIENTS = 6

#: More clients, and a queue, that make trouble.
CROWD = 40
MAX_BACKLOG = 24

#: Samples in the charts before the picture is taken: one comes each second.
SECONDS = 30
WIDTH, HEIGHT = 1360, 1130


def main() -> int:
    models = ROOT / "models"
    command = [sys.executable, "-m", "export", MODEL, "--output", str(models), "--if-missing"]
    subprocess.run(command, check=True, cwd=ROOT)
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sluice-pictures-") as name:
        folder = Path(name)
        server = Server(folder)
        server.start()
        try:
            with Processes(folder, redis_url=server.url, models_dir=models) as processes:
                _take(processes, folder)
        finally:
            server.kill()
    return 0


def _take(processes: Processes, folder: Path) -> None:
    doomed, _ = (processes.consumer(model=MODEL) for _ in range(2))
    _, url = processes.ingest(max_backlog=MAX_BACKLOG)
    files = {f"{name}.jpg": _jpeg(name) for name in PHOTOGRAPHS}
    photograph = next(iter(files.values()))
    with chromium(folder / "chromium") as page, _Load(url, photograph, CLIENTS):
        page.resize(WIDTH, HEIGHT)
        page.open(url)
        _watch(page, SECONDS)
        page.drop(files)
        wait_until(lambda: len(page.texts(".card .stages")) == len(files), "the photographs are classified")
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            _watch(page, 1)
            _save(page.driver.get_screenshot_as_png(), OUTPUT / f"page-{scheme}.png")
        page.prefer("light")
        doomed.kill()
        with _Load(url, photograph, CROWD):
            wait_until(lambda: page.texts("#consumers tr.dead"), "the dead consumer is red")
            wait_until(lambda: "refused" in page.text("#trouble"), "refusals are told")
            _watch(page, 3)
            _save(page.driver.get_screenshot_as_png(), OUTPUT / "page-trouble.png")


def _watch(page: Browser, seconds: int) -> None:
    began = page.run("return performance.now()")
    wait_until(
        lambda: page.run("return performance.now()") - began > seconds * 1000, "the charts fill", timeout_s=seconds + 10
    )


def _save(png: bytes, path: Path) -> None:
    # A palette is enough for a page, and a third of the size; this way of choosing it keeps the few strong colours.
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    picture.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


def _jpeg(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(file, "JPEG", quality=90)
    return file.getvalue()


class _Load:
    """Clients that send a photograph again and again, with pauses that differ."""

    def __init__(self, url: str, body: bytes, clients: int) -> None:
        self._url, self._body = url, body
        self._end = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, number: int) -> None:
        with httpx.Client(timeout=30) as service:
            while not self._end.wait(0.02 * number):
                service.post(f"{self._url}/predict", content=self._body)

    def __enter__(self) -> None:
        for client in self._clients:
            client.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for client in self._clients:
            client.join()


if __name__ == "__main__":
    sys.exit(main())
