"""What waits to be decoded: bounded by number, by time and by bytes, and the client learns when to come back."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image

from ingest.backpressure import BacklogLimit
from ingest.errors import DamagedImage, Overloaded
from ingest.images.decoder import Decoder
from ingest.images.worker_process import DecodeLimits
from ingest.request_body import Upload
from stream.keys import Priority
from tests.support.images import encoded, model, scene

pytestmark = pytest.mark.anyio

PLENTY = 2**30
LIMITS = DecodeLimits(max_pixels=10**7, memory_bytes=2**28, cpu_s=2, wait_s=30)


class Decoders:
    """Makes decoders of one thread, and closes them."""

    def __init__(self) -> None:
        self._made: list[Decoder] = []

    def __call__(self, backlog: BacklogLimit, *, max_bytes: int = PLENTY) -> Decoder:
        self._made.append(Decoder(threads=1, backlog=backlog, max_bytes=max_bytes, limits=LIMITS))
        return self._made[-1]

    async def aclose(self) -> None:
        for decoder in self._made:
            await decoder.aclose()


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    made = Decoders()
    yield made
    await made.aclose()


@pytest.fixture
def upload() -> Upload:
    return Upload(None, encoded(scene(), "JPEG"))


async def all_at_once(decoder: Decoder, upload: Upload, count: int) -> list[Overloaded]:
    """Those of so many that were refused; all others were decoded."""
    work = [decoder.decode(upload, model()) for _ in range(count)]
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {bytes, Overloaded}
    return [answer for answer in answers if isinstance(answer, Overloaded)]


async def test_before_an_image_was_timed_only_the_number_counts(decoders: Decoders, upload: Upload) -> None:
    """Nothing is known of the speed: come back in two seconds."""
    refused = await all_at_once(decoders(BacklogLimit(max_backlog=5, max_wait_s=0.001)), upload, 8)
    assert [problem.retry_after_s for problem in refused] == [2, 2, 2]


async def test_bulk_images_neither_refuse_nor_hold_up_an_interactive_one(decoders: Decoders, upload: Upload) -> None:
    """Each class has its own limit, and at most one bulk image for each thread goes first."""
    decoder = decoders(BacklogLimit(max_backlog=5, max_wait_s=1000))
    done: list[str] = []

    async def decode(priority: Priority) -> None:
        await decoder.decode(upload, model(), priority)
        done.append(priority)

    bulk = [asyncio.create_task(decode("bulk")) for _ in range(8)]
    await asyncio.sleep(0)  # all of them have begun
    interactive = [asyncio.create_task(decode("interactive")) for _ in range(5)]
    answers = await asyncio.gather(*bulk, *interactive, return_exceptions=True)
    assert [isinstance(answer, Overloaded) for answer in answers] == [*[False] * 5, *[True] * 3, *[False] * 5]
    assert done.index("interactive") <= 1
    assert done[-4:] == ["bulk"] * 4


async def test_no_more_wait_than_can_be_decoded_in_time(decoders: Decoders, upload: Upload) -> None:
    """At the speed measured; who is refused comes back when those who wait are done."""
    backlog = BacklogLimit(max_backlog=1000, max_wait_s=1e-6)
    decoder = decoders(backlog)
    await all_at_once(decoder, upload, 3)
    assert backlog.limit == 32, "a millionth of a second is enough for none, but a few may always wait"
    expected_s = backlog.retry_after_s(32)
    refused = await all_at_once(decoder, upload, 40)
    assert [problem.retry_after_s for problem in refused] == [expected_s] * 8
    assert 0 < expected_s < 60


async def test_a_slower_image_makes_the_queue_shorter(decoders: Decoders, upload: Upload) -> None:
    """What counts is the time that lately was needed."""
    backlog = BacklogLimit(max_backlog=10**9, max_wait_s=1000)
    decoder = decoders(backlog)
    await all_at_once(decoder, upload, 3)
    before = backlog.limit
    noise = np.random.default_rng(1).integers(0, 256, (900, 900, 3), np.uint8)
    await all_at_once(decoder, Upload(None, encoded(Image.fromarray(noise), "PNG")), 5)
    assert backlog.limit < before


async def test_it_says_how_long_those_that_are_here_will_take(decoders: Decoders, upload: Upload) -> None:
    """Less with each image that is done, and nothing in the end."""
    decoder = decoders(BacklogLimit(max_backlog=1000, max_wait_s=10))
    await decoder.decode(upload, model())
    assert decoder.remaining_s == 0
    left: list[float] = []

    async def decode() -> None:
        await decoder.decode(upload, model())
        left.append(decoder.remaining_s)

    await asyncio.gather(*(decode() for _ in range(20)))
    assert left[0] > left[-1] == 0


async def test_requests_on_their_way_are_seen_before_the_next_image(decoders: Decoders, upload: Upload) -> None:
    """By gRPC, a call takes some iterations of the event loop until its image waits. Consumers wait for it, too."""
    decoder = decoders(BacklogLimit(max_backlog=1000, max_wait_s=10))
    await decoder.decode(upload, model())

    async def arriving() -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        await decoder.decode(upload, model())

    later = asyncio.create_task(arriving())
    await decoder.decode(upload, model())
    assert decoder.remaining_s > 0
    await later


async def test_bytes_that_wait_are_bounded(decoders: Decoders, upload: Upload) -> None:
    """By the size of what was sent, however fast it could be decoded."""
    decoder = decoders(BacklogLimit(max_backlog=1000, max_wait_s=10), max_bytes=5 * len(upload.data) // 2)
    assert len(await all_at_once(decoder, upload, 6)) == 4


async def test_an_image_above_the_bound_is_taken_where_none_waits(decoders: Decoders, upload: Upload) -> None:
    """Else it would be refused for ever."""
    decoder = decoders(BacklogLimit(max_backlog=1000, max_wait_s=10), max_bytes=1)
    assert len(await all_at_once(decoder, upload, 2)) == 1
    assert not await all_at_once(decoder, upload, 1)


async def test_a_damaged_image_leaves_the_queue(decoders: Decoders, upload: Upload) -> None:
    """And says nothing of the speed."""
    backlog = BacklogLimit(max_backlog=1, max_wait_s=10)
    decoder = decoders(backlog, max_bytes=1)
    with pytest.raises(DamagedImage):
        await decoder.decode(Upload(None, upload.data[:100]), model())
    assert backlog.limit == 1
    assert not await all_at_once(decoder, upload, 1)


async def test_an_expensive_image_takes_nothing_from_the_others(decoders: Decoders, upload: Upload) -> None:
    """They neither wait for it nor are refused for its sake, and consumers do not wait for it to fill a batch."""
    decoder = decoders(BacklogLimit(max_backlog=1, max_wait_s=10), max_bytes=1)
    noise = np.random.default_rng(1).integers(0, 256, (1400, 1400, 3), np.uint8)
    expensive = Upload(None, encoded(Image.fromarray(noise), "PNG", compress_level=1))
    await decoder.decode(upload, model())  # its time is known from now on
    large = asyncio.create_task(decoder.decode(expensive, model()))
    await asyncio.sleep(0)
    assert decoder.remaining_s == 0
    await decoder.decode(upload, model())
    assert not large.done()
    assert len(await all_at_once(decoder, expensive, 2)) == 2, "its own queue is full"
    await large
