"""What an ingest process weighs, as a user starts it."""

import io

import httpx
import skimage.data
from PIL import Image

from tests.support.processes import Processes, needs_proc

#: Bound for a worker that has decoded ordinary images.
_MOST_BYTES = 120 * 10**6


@needs_proc
def test_ingest_stays_small(processes: Processes) -> None:
    """After images of 512 x 512 and of 4 megapixels it keeps under 120 MB, the memory that it spares included."""
    processes.consumer()
    process, url = processes.ingest()
    astronaut = Image.fromarray(skimage.data.astronaut())
    with httpx.Client(timeout=30) as client:
        for image in [_jpeg(astronaut)] * 30 + [_jpeg(astronaut.resize((2048, 2048)))] * 5:
            assert client.post(f"{url}/predict", content=image).status_code == 200
    assert process.resident_bytes < _MOST_BYTES


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()
