"""After `DELETE /results/{id}` the pixels are in no key, and after a rewrite of the append-only file in no file."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from tests.ingest.test_app import png
from tests.support.models import tiny_model
from tests.support.processes import Processes
from tests.support.redis.requests_direct import TINY, marked, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture
def open_server(any_server: None, tmp_path: Path) -> Iterator[Server]:
    """A server that writes a file, and compresses nothing, so that pixels can be found."""
    server = Server(tmp_path, options={"appendonly": "yes", "appendfsync": "always", "rdbcompression": "no"})
    server.start()
    yield server
    server.kill()


def keys_with(client: "redis.Redis", pixels: bytes) -> list[bytes]:
    return [name for name in client.scan_iter("*") if pixels in (client.dump(name) or b"")]


def in_files(folder: Path, images: Iterable[NDArray[np.uint8]]) -> list[bool]:
    """Whether the append-only file has the pixels of each image."""
    found = b""
    for path in (folder / "appendonlydir").iterdir():
        with suppress(FileNotFoundError):  # A rewrite has just ended.
            found += path.read_bytes()
    return [image.tobytes() in found for image in images]


def test_pixels_are_gone_in_every_state(open_server: Server, tmp_path: Path) -> None:
    """Finished, dead letter, held by a consumer, waiting in either class, and with a webhook.

    Consumers skip what was cancelled, one that claims it too, and keep no dead letter of it.
    """
    tiny_model.build(tmp_path / "models")
    with (
        Processes(tmp_path, redis_url=open_server.url, models_dir=tmp_path / "models") as processes,
        redis.Redis.from_url(open_server.url) as client,
    ):
        consumer = processes.consumer(rogue="raise", version=1, lease_s=2)
        _, url = processes.ingest(accept_without_consumers=True, webhooks=True)
        images = dict(zip(("finished", "held", "waiting", "bulk", "webhook"), random_images(5), strict=True))
        images["dead letter"] = marked()
        ids: dict[str, str] = {}

        def submit(state: str, **headers: str) -> None:
            given = {"Prefer": "respond-async, wait=0", **headers}
            response = httpx.post(f"{url}/predict", content=png(images[state]), headers=given, timeout=30)
            ids[state] = response.json()["id"]

        submit("finished", Prefer="wait=20")
        submit("dead letter", Prefer="wait=20")
        consumer.kill()
        # The dead consumer's connection is gone, so it holds what it read as one that hangs does.
        submit("held")
        client.xreadgroup("consumers", "died", {TINY.entries: ">"})
        submit("waiting")
        submit("bulk", Priority="u=7")
        submit("webhook", **{"Webhook-URL": "https://example.com/"})
        before = {state: bool(keys_with(client, image.tobytes())) for state, image in images.items()}
        assert before == dict.fromkeys(images, True) | {"finished": False}
        assert all(in_files(tmp_path, images.values()))

        for state, request_id in ids.items():
            assert httpx.delete(f"{url}/results/{request_id}").status_code == 204, state
        assert [keys_with(client, image.tobytes()) for image in images.values()] == [[]] * len(images)
        client.bgrewriteaof()
        wait_until(lambda: not any(in_files(tmp_path, images.values())), "no file has the pixels")

        processes.consumer(version=1, lease_s=2, max_deliveries=1)
        wait_until(lambda: client.xlen(TINY.entries) + client.xlen(TINY.stream("bulk").key) == 0, "all are skipped")
        for state in ("held", "waiting", "bulk", "webhook"):
            assert httpx.get(f"{url}/results/{ids[state]}").json()["code"] == "cancelled", state
            assert httpx.delete(f"{url}/results/{ids[state]}").status_code == 204, state
            assert httpx.get(f"{url}/results/{ids[state]}").json()["code"] == "unknown_result", state
        assert client.xlen(TINY.dead_letters) == 0
        # Not all keys of pixels: while no consumer is alive, ingest writes an empty one now and then to try the server.
        assert client.exists(*map(TINY.pixels, ids.values())) == 0
