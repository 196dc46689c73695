"""`make screenshots`: the page under load and in trouble, each in light and dark, into docs/images/.

Starts a system, sends it images and load, kills a consumer, and opens the page in headless Chromium.
"""

import io
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import numpy as np
import skimage.data
from PIL import Image

from tests.support.browser import Browser, chromium
from tests.support.processes import ROOT, Processes
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until

MODEL = "efficientnet-lite0"
OUTPUT = ROOT / "docs" / "images"

#: Free images in scikit-image.
IMAGES = ("chelsea", "coffee")
CLIENTS = 6

#: More clients than the queue can hold.
CROWD = 40
MAX_BACKLOG = 24

#: The most frequent colours, which a screenshot keeps exactly.
OWN_COLOURS = 192

#: Samples in the charts before a screenshot: one comes each second.
SECONDS = 30
WIDTH, HEIGHT = 1360, 1130


def main() -> int:
    models = ROOT / "models"
    command = [sys.executable, "-m", "export", MODEL, "--output", str(models), "--if-missing"]
    subprocess.run(command, check=True, cwd=ROOT)
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sluice-screenshots-") as name:
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
    files = {f"{name}.jpg": _jpeg(name) for name in IMAGES}
    image = next(iter(files.values()))
    with chromium(folder / "chromium") as page, _Load(url, image, CLIENTS):
        page.resize(WIDTH, HEIGHT)
        page.open(url)
        _watch(page, SECONDS)
        page.drop(files)
        wait_until(lambda: len(page.texts(".card .stages")) == len(files), "the images are classified")
        _save_both(page, "page")
        doomed.kill()
        with _Load(url, image, CROWD):
            wait_until(lambda: page.texts("#consumers tr.dead"), "the dead consumer is red")
            wait_until(lambda: "refused" in page.text("#trouble"), "refusals are shown")
            _watch(page, 5)
            _save_both(page, "trouble")


def _watch(page: Browser, seconds: int) -> None:
    began = page.run("return performance.now()")
    wait_until(
        lambda: page.run("return performance.now()") - began > seconds * 1000, "the charts fill", timeout_s=seconds + 10
    )


def _save_both(page: Browser, name: str) -> None:
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        _watch(page, 1)
        _save(page.driver.get_screenshot_as_png(), OUTPUT / f"{name}-{scheme}.png")


def _save(png: bytes, path: Path) -> None:
    _with_palette(Image.open(io.BytesIO(png)).convert("RGB")).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} KB")


def _with_palette(screenshot: Image.Image) -> Image.Image:
    """In 256 colours, for a third of the size: the page's own colours exactly, those of images as near as possible.

    Pillow's palettes suit natural images: they shift the page's background, and turn its pale reds grey.
    """
    red, green, blue = np.moveaxis(np.asarray(screenshot, np.int32), 2, 0)
    packed, indices, counts = np.unique(red << 16 | green << 8 | blue, return_inverse=True, return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    by_use = colours[np.argsort(-counts)]
    others = Image.fromarray(by_use[None, OWN_COLOURS:].astype(np.uint8)).quantize(256 - OWN_COLOURS)
    rest = np.reshape(others.getpalette() or [], (-1, 3))
    palette = np.concatenate([by_use[:OWN_COLOURS], rest])
    parts = np.array_split(colours, 16)
    nearest = np.concatenate([((part[:, None] - palette) ** 2).sum(2).argmin(1) for part in parts])
    reduced = Image.fromarray(nearest[indices].reshape(red.shape).astype(np.uint8), "P")
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced


def _jpeg(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(file, "JPEG", quality=90)
    return file.getvalue()


class _Load:
    """Clients that send an image again and again, with different pauses."""

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
