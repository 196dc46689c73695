"""The worst file costs its sender a refusal, and nobody else anything."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.backpressure import BacklogLimit
from ingest.errors import DamagedImage, Overloaded, Problem, TooManyPixels
from ingest.images.decode import to_pixels
from ingest.images.decoder import Decoder
from ingest.images.worker_pool import WorkerPool
from ingest.images.worker_process import DecodeLimits
from ingest.request_body import Upload
from tests.support import hostile_images
from tests.support.images import encoded, model, noisy_scene, scene
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

#: The defaults of the settings, but for the wait: other tests may take the cores.
LIMITS = DecodeLimits(max_pixels=50_000_000, memory_bytes=256 * 2**20, cpu_s=2, wait_s=280)

#: Less than a worker has while it decodes 25 megapixels, and more than before.
RESIDENT_WHILE_DECODING = 90 * 10**6

PNG = encoded(scene(), "PNG")

Pools = Callable[..., WorkerPool]


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    made: list[WorkerPool] = []

    def make(limits: DecodeLimits = LIMITS) -> WorkerPool:
        made.append(WorkerPool(limits, workers=1, niceness=0))
        return made[-1]

    yield make
    for pool in made:
        await pool.aclose()


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    """With CPU time for any image, also on cores that others use."""
    async with decoding(replace(LIMITS, cpu_s=60)) as decoder:
        yield decoder


@asynccontextmanager
async def decoding(limits: DecodeLimits) -> AsyncIterator[Decoder]:
    made = Decoder(threads=1, backlog=BacklogLimit(max_backlog=100, max_wait_s=30), max_bytes=2**30, limits=limits)
    try:
        yield made
    finally:
        await made.aclose()


def pid(pool: WorkerPool) -> int | None:
    process = pool._workers[0]._process
    return process.pid if process else None


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (another process changes it)
            await asyncio.sleep(0.001)


async def outcome(work: Awaitable[bytes]) -> type[Problem] | None:
    try:
        await work
    except Problem as problem:
        return type(problem)
    return None


def resident(process: int, name: str) -> int:
    return status(process, name) * 1024


def status(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


async def test_a_file_that_takes_too_long_ends_its_worker_only(pools: Pools) -> None:
    """422 for its sender; the next image gets a new worker."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**28, cpu_s=0.05, wait_s=30))
    with pytest.raises(DamagedImage, match=r"takes over 0\.05 s"):
        await pool.decode(hostile_images.rgba_png(4000), model(), 0.01)
    pixels, _ = await pool.decode(PNG, model(), 0.01)
    assert pixels == to_pixels(PNG, model(), 10**6)


async def test_a_file_that_takes_too_much_memory_is_refused(pools: Pools) -> None:
    """Also where its header has not said so."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**26, cpu_s=10, wait_s=30))
    with pytest.raises(TooManyPixels, match="too large to be decoded"):
        await pool.decode(hostile_images.rgba_png(6000), model(), 0.01)
    before = pid(pool)
    await pool.decode(PNG, model(), 0.01)
    assert pid(pool) == before, "the worker lives on"


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
async def test_a_codec_that_gets_no_memory_says_so(pools: Pools, kind: str) -> None:
    """413 as for the other formats: the file is not damaged."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**25, cpu_s=10, wait_s=30))
    data = hostile_images.heic() if kind == "HEIF" else encoded(scene(4000, 3000), "AVIF", speed=10)
    with pytest.raises(TooManyPixels, match="too large to be decoded"):
        await pool.decode(data, model(), 0.01)
    await pool.decode(PNG, model(), 0.01)


async def test_a_worker_that_was_killed_is_replaced(pools: Pools) -> None:
    """No image is lost with it."""
    pool = pools()
    await pool.decode(PNG, model(), 0.01)
    first = pid(pool)
    assert first
    os.kill(first, signal.SIGKILL)
    pixels, _ = await pool.decode(PNG, model(), 0.01)
    assert pixels == to_pixels(PNG, model(), 10**6)
    assert pid(pool) != first


async def test_a_file_that_ends_two_workers_is_refused(pools: Pools) -> None:
    """The first may have been killed by something else; a second one is no accident."""
    pool = pools()
    await pool._workers[0].start()
    work = asyncio.create_task(pool.decode(hostile_images.rgba_png(5000), model(), 0.01))
    for _ in range(2):
        await until(lambda: pid(pool) and resident(pid(pool) or 0, "VmRSS") > RESIDENT_WHILE_DECODING)
        number = pid(pool)
        assert number
        os.kill(number, signal.SIGSEGV)
        await until(lambda: pid(pool) != number)  # noqa: B023 (called at once)
    with pytest.raises(DamagedImage, match="crashes"):
        await work
    await pool.decode(PNG, model(), 0.01)


async def test_who_hangs_up_frees_the_worker(pools: Pools) -> None:
    """Its process ends, and the reply is not taken for the next one's."""
    pool = pools()
    await pool.decode(PNG, model(), 0.01)
    work = asyncio.create_task(pool.decode(hostile_images.rgba_png(5000), model(), 0.01))
    first = pid(pool)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    pixels, _ = await pool.decode(PNG, model(), 0.01)
    assert pixels == to_pixels(PNG, model(), 10**6)
    assert pid(pool) != first


def test_a_worker_whose_parent_was_killed_ends_in_silence() -> None:
    """Before it could even say that it is ready."""
    command = [sys.executable, "-m", "ingest.images.worker", str(1 << 28), "1000", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout
        worker.stdout.close()
        assert worker.wait(30) == 0
        assert worker.stderr
        assert worker.stderr.read() == b""


async def test_what_would_wait_too_long_is_refused_at_once(pools: Pools) -> None:
    """By the seconds that all of them take, not by their number; nobody waits beyond the limit."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**28, cpu_s=2, wait_s=30))
    data = encoded(noisy_scene(), "PNG")
    work = [outcome_of(pool, data, 10.0) for _ in range(50)]
    outcomes = await asyncio.gather(*work)
    assert outcomes.count(Overloaded) == 47
    assert outcomes.count(None) == 3


async def outcome_of(pool: WorkerPool, data: bytes, estimated_s: float) -> type[Problem] | None:
    try:
        await pool.decode(data, model(), estimated_s)
    except Problem as problem:
        return type(problem)
    return None


async def test_the_deadline_covers_decoding(pools: Pools) -> None:
    """An estimate may be wrong, and other processes may take the core."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**28, cpu_s=10, wait_s=0.3))
    await pool._workers[0].start()
    with pytest.raises(Overloaded):
        await pool.decode(hostile_images.rgba_png(6000), model(), 0.01)
    await pool._workers[0].start()
    await pool.decode(PNG, model(), 0.01)


async def test_others_do_not_wait_for_an_expensive_image(decoder: Decoder) -> None:
    """Neither a JPEG nor a moderate image of another format, while the expensive one takes for ever."""
    jpeg = Upload(None, encoded(noisy_scene(1600, 1200), "JPEG"))
    process = await decoder._expensive._workers[0].start()
    os.kill(process.pid, signal.SIGSTOP)
    expensive = asyncio.create_task(decoder.decode(Upload(None, hostile_images.rgba_png()), model()))
    for _ in range(5):
        await decoder.decode(jpeg, model())
        await decoder.decode(Upload(None, PNG), model())
    assert not expensive.done()
    os.kill(process.pid, signal.SIGCONT)
    await expensive


@pytest.mark.parametrize(
    "make", [hostile_images.avif_that_lies, hostile_images.baseline_jpeg, hostile_images.tall_jpeg]
)
async def test_only_one_expensive_image_takes_a_core_from_others(decoder: Decoder, make: Callable[[], bytes]) -> None:
    """Also if its header says that it is cheap, and if it is a JPEG: it ends up where one is decoded at a time."""
    data, input_of_224 = make(), model(224, 224)
    await decoder.start()
    expensive = decoder._expensive._workers
    assert [worker.is_running for worker in expensive] == [False]
    assert await decoder.decode(Upload(None, data), input_of_224) == to_pixels(data, input_of_224, LIMITS.max_pixels)
    assert [worker.is_running for worker in expensive] == [True]
    assert await decoder.decode(Upload(None, PNG), input_of_224) == to_pixels(PNG, input_of_224, 10**6)


async def test_the_decoder_of_an_expensive_image_pauses_for_others(decoder: Decoder) -> None:
    """All the time, not only where it waits for a file, and no longer than it decodes."""
    process = (await decoder._expensive._workers[0].start()).pid
    before = status(process, "voluntary_ctxt_switches")
    await decoder.decode(Upload(None, hostile_images.rgba_png()), model())
    after = status(process, "voluntary_ctxt_switches")
    assert after > before + 100, "it takes half a second or more, and pauses each millisecond"
    await asyncio.sleep(0.1)
    assert status(process, "voluntary_ctxt_switches") < after + 20


async def test_the_cheapest_image_goes_first(pools: Pools) -> None:
    """It came last. Nor is it refused, although all of them together exceed the limit."""
    pool = pools(DecodeLimits(max_pixels=10**8, memory_bytes=2**28, cpu_s=10, wait_s=60))
    done: list[float] = []

    async def decode(data: bytes, estimated_s: float) -> None:
        await pool.decode(data, model(), estimated_s)
        done.append(estimated_s)

    await pool.start()
    running = asyncio.create_task(decode(hostile_images.rgba_png(2000), 5.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(running, *(decode(PNG, estimated_s) for estimated_s in (40.0, 20.0, 30.0, 0.01)))
    assert done == [5.0, 0.01, 20.0, 30.0, 40.0]


async def test_no_image_waits_for_a_worker_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """If another worker is free before, that one decodes it."""
    pool = WorkerPool(LIMITS, workers=2, niceness=0, keep_one=True)
    await pool.start()
    monkeypatch.setattr(pool._workers[1], "start", asyncio.Event().wait)
    try:
        async with asyncio.timeout(PATIENCE_S):
            found = await asyncio.gather(*(pool.decode(PNG, model(), 0.01) for _ in range(4)))
        assert {pixels for pixels, _ in found} == {to_pixels(PNG, model(), LIMITS.max_pixels)}
    finally:
        await pool.aclose()
