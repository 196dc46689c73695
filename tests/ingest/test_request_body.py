"""What is done with a body: small work in the event loop and large work beside it; base64 is no image."""

import asyncio
import base64
import threading

import pytest

from ingest.errors import MalformedUpload
from ingest.images.formats import FORMATS, ImageFormat
from ingest.request_body import in_thread_if_large, refuse_base64

pytestmark = pytest.mark.anyio


async def test_only_large_work_leaves_the_event_loop() -> None:
    """A thread costs a request more than a millisecond's work does others."""
    here = threading.get_ident()
    assert await in_thread_if_large(threading.get_ident, size=2**16) == here
    assert await in_thread_if_large(threading.get_ident, size=2**16 + 1) != here


async def test_large_work_with_the_same_lock_runs_one_at_a_time() -> None:
    """Each takes several times its size in memory."""
    running, lock = threading.Semaphore(1), asyncio.Lock()

    def work() -> bool:
        alone = running.acquire(blocking=False)
        threading.Event().wait(0.01)
        if alone:
            running.release()
        return alone

    assert all(await asyncio.gather(*(in_thread_if_large(work, size=2**20, lock=lock) for _ in range(4))))


@pytest.mark.parametrize("image_format", FORMATS, ids=lambda one: one.name)
def test_base64_of_every_format_is_recognised(image_format: ImageFormat) -> None:
    """Its sender hears what is wrong. Otherwise extend _BASE64_IMAGE in ingest/request_body.py."""
    for signature in image_format.signatures:
        data = signature.replace(b".", b"\x18") + b"".join(image_format.brands[:1]) + bytes(60)
        assert image_format.matches(data)
        with pytest.raises(MalformedUpload):
            refuse_base64(base64.b64encode(data))
