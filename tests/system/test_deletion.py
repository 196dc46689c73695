"""After DELETE the pixels are in no key of Redis, and after a rewrite of the append-only file in no file."""

from pathlib import Path

import httpx
import redis

from tests.ingest.test_app import png
from tests.support.processes import Processes
from tests.support.redis.embedded import client, started
from tests.support.redis.requests_direct import TINY, marked, random_images
from tests.support.waiting import wait_until


def files_with(pixels: bytes, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and pixels in path.read_bytes()]


def keys_with(pixels: bytes, embedded: redis.Redis) -> list[bytes]:
    return [name for name in embedded.scan_iter("*") if pixels in (embedded.dump(name) or b"")]


def test_deleted_pixels_are_nowhere(models_dir: Path, tmp_path: Path, data_dir: Path) -> None:
    """Those of a finished request, and those of a dead letter, in the files of the embedded server."""
    (image,) = random_images(1, seed=5)
    with Processes(tmp_path, redis_url="", models_dir=models_dir) as processes:
        processes.share(SLUICE_DATA_DIR=str(data_dir))
        server = started(processes, data_dir)
        processes.consumer(rogue="raise", version=1)
        _, url = processes.ingest()
        done = httpx.post(f"{url}/predict", content=png(image), timeout=30)
        failed = httpx.post(f"{url}/predict", content=png(marked()), timeout=30)
        assert (done.status_code, failed.status_code) == (200, 500)
        with client(data_dir) as embedded:
            assert keys_with(marked().tobytes(), embedded) == [TINY.dead_letters.encode()]
            assert all(files_with(pixels.tobytes(), data_dir) for pixels in (image, marked()))
            for answer in (done, failed):
                assert httpx.delete(f"{url}/results/{answer.json()['id']}").status_code == 204
            assert not any(keys_with(pixels.tobytes(), embedded) for pixels in (image, marked()))
            embedded.bgrewriteaof()
            wait_until(
                lambda: not any(files_with(pixels.tobytes(), data_dir) for pixels in (image, marked())),
                "the pixels are in no file",
            )
        processes.stop_all()
        assert server.status == 0
        assert not any(files_with(pixels.tobytes(), data_dir) for pixels in (image, marked()))
