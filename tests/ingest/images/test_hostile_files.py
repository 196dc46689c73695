"""The worst files, one after the other: what each takes, and that the next image is decoded."""

import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import DamagedImage, TooManyPixels
from ingest.images.cost import LONG_HEADER
from ingest.images.decode import EncodedImage, to_pixels
from ingest.images.decoder import MOST_SEGMENTS, Decoder
from ingest.images.formats import TITLES
from ingest.images.worker_process import Worker
from ingest.request_body import Upload
from tests.ingest.images.test_worker_pool import LIMITS, PNG, decoding, outcome, resident
from tests.support import hostile_images
from tests.support.image_files.jpeg_files import segment
from tests.support.images import encoded, model, scene
from tests.support.processes import needs_proc

pytestmark = pytest.mark.anyio

#: What one file may take: CPU seconds, and bytes above those of an idle worker.
MOST_CPU_S = 2
MOST_BYTES = 300 * 10**6
#: CPU seconds that one file may take in ingest itself, in which no process can be ended.
MOST_OWN_CPU_S = 0.7
#: What the header of one file may take on the event loop: CPU seconds, and bytes.
MOST_HEADER_CPU_S = 0.018
MOST_COPIED_BYTES = 8 * 2**20

#: By how much an estimate may differ from a measurement: of CPU time, which depends on the machine, and of memory.
MOST_WRONG_S = 10
MOST_WRONG_BYTES = 2.5

#: What makes slow encoders quick. The decoders take as long.
_QUICK: dict[str, dict[str, Any]] = {"HEIF": {"enc_params": {"preset": "ultrafast"}}, "AVIF": {"speed": 10}}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For `decoder`, which outlives a test."""
    return "asyncio"


@pytest.fixture(scope="module")
async def decoder() -> AsyncIterator[Decoder]:
    """With the limits of the settings."""
    async with decoding(LIMITS) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def idle_bytes() -> dict[int, int]:
    """What each worker process had in memory when it had started."""
    return {}


@pytest.mark.parametrize(
    "name", ["jpeg with exif in pieces", "jpeg with profiles", "jpeg of stuffed bytes", "jpeg of fill bytes"]
)
def test_no_header_holds_up_the_event_loop(name: str) -> None:
    """It is read there, in the time for a few copies of the file, and nothing is copied. It took up to 200 ms."""
    data = hostile_images.ALL[name]()
    times = []
    for _ in range(5):
        began = time.thread_time()
        EncodedImage(data, most_segments=MOST_SEGMENTS).cost(model(224, 224), 10**8)
        times.append(time.thread_time() - began)
    assert min(times) < MOST_HEADER_CPU_S
    tracemalloc.start()
    EncodedImage(data, most_segments=MOST_SEGMENTS).cost(model(224, 224), 10**8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_COPIED_BYTES


def test_a_header_of_many_segments_is_not_read_to_its_end() -> None:
    """It took 10 ms for a file of 60 KB, on the event loop, and 50 such files a second kept a core busy."""
    image = EncodedImage(hostile_images.jpeg_of_hidden_scans(), most_segments=MOST_SEGMENTS)
    assert not image.is_quick
    assert image.cost(model(), 10**8) == LONG_HEADER
    with pytest.raises(DamagedImage, match="segments"):
        image.to_pixels(model(), 10**8)


async def test_an_image_of_many_segments_is_decoded_in_a_process(decoder: Decoder) -> None:
    """No encoder writes so many, but they do no harm there."""
    plain = encoded(scene(), "JPEG")
    data = plain[:2] + segment(0xFE, b"") * 4 * MOST_SEGMENTS + plain[2:]
    assert EncodedImage(data, most_segments=MOST_SEGMENTS).cost(model(), 10**8) == LONG_HEADER
    assert await decoder.decode(Upload(None, data), model()) == to_pixels(plain, model(), 10**8)


async def test_a_header_that_takes_too_long_is_refused_without_a_size() -> None:
    """Its size is behind what was read. The message said 0 x 0 pixels."""
    data = hostile_images.jpeg_of_hidden_scans()
    async with decoding(replace(LIMITS, cpu_s=0.1)) as decoder:
        with pytest.raises(DamagedImage, match=r"^The JPEG image takes about 0\.2 s to decode; the limit is 0\.1\."):
            await decoder.decode(Upload(None, data), model())


@needs_proc
async def test_a_large_file_is_handed_to_its_worker_in_pieces(decoder: Decoder) -> None:
    """The transport would copy it twice, on the event loop."""
    data = hostile_images.noisy_png()
    await decoder.start()
    tracemalloc.start()
    assert await outcome(decoder.decode(Upload(None, data), model(224, 224))) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_COPIED_BYTES


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(process: int) -> None:
    """VmHWM begins again."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


@needs_proc
@pytest.mark.parametrize("kind", TITLES)
async def test_the_estimate_of_a_cost_is_near_a_measurement(kind: str) -> None:
    """An image of 8 megapixels, in a worker of its own."""
    data, wanted = encoded(scene(3200, 2400), kind, **_QUICK.get(kind, {})), model(224, 224)
    estimate = EncodedImage(data).cost(wanted, 10**8)
    worker = Worker(LIMITS, niceness=0, keep=True)
    process = await worker.start()
    idle, cpu_before = resident(process.pid, "VmRSS"), cpu_s(process.pid)
    await worker.decode(data, wanted, 60)
    seconds, memory = cpu_s(process.pid) - cpu_before, resident(process.pid, "VmHWM") - idle - len(data)
    worker.stop()
    await process.wait()
    found = f"measured: {seconds:.2f} s, {memory} bytes; {estimate}"
    assert seconds / MOST_WRONG_S < estimate.seconds < max(seconds, 0.01) * MOST_WRONG_S, found
    assert memory / MOST_WRONG_BYTES < estimate.memory_bytes < memory * MOST_WRONG_BYTES, found


@needs_proc
@pytest.mark.parametrize("name", hostile_images.ALL)
async def test_no_file_takes_more_than_its_share(decoder: Decoder, idle_bytes: dict[int, int], name: str) -> None:
    """Decoded or refused: within two seconds of CPU and 300 MB above an idle worker; the next image is decoded."""
    data = hostile_images.ALL[name]()
    assert len(data) < 20 * 2**20
    workers = {}
    for worker in (*decoder._workers._workers, *decoder._expensive._workers):
        number = (await worker.start()).pid
        idle_bytes.setdefault(number, resident(number, "VmRSS"))
        reset_peak(number)
        workers[number] = worker, cpu_s(number)
    own = time.process_time()
    assert await outcome(decoder.decode(Upload(None, data), model(224, 224))) in {None, TooManyPixels, DamagedImage}
    assert time.process_time() - own < MOST_OWN_CPU_S
    for number, (worker, cpu_before) in workers.items():
        if worker._process is not None:
            assert resident(number, "VmHWM") - idle_bytes[number] < MOST_BYTES
            assert cpu_s(number) - cpu_before < MOST_CPU_S
    assert await decoder.decode(Upload(None, PNG), model()) == to_pixels(PNG, model(), 10**6)
