"""Requests without HTTP: pixels admitted straight into the stream, outcomes read from the store."""

import uuid
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from results.outcome import Done, Failed, Outcome
from results.store import Store
from stream.admission import Admission
from stream.entry import Entry
from stream.keys import GROUP, EntryStream, Partition
from tests.support.models import tiny_model
from tests.support.programs.rogue_consumer import MARK
from tests.support.waiting import eventually

SIZE = 16
TINY = Partition("tiny")


def random_images(count: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Random images uint8 [count, 16, 16, 3], none of them marked."""
    images: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    images[:, 0, 0, 0] = 9
    return images


def marked() -> NDArray[np.uint8]:
    """An image that a rogue consumer does not bear."""
    image: NDArray[np.uint8] = random_images(1, seed=99)[0].copy()
    image[0, 0] = MARK
    return image


async def send(
    redis: Redis,
    images: Iterable[NDArray[np.uint8]],
    *,
    top: int = 0,
    timeout_s: float = 60,
    stream: EntryStream | None = None,
    without_consumers: bool = False,
) -> list[str]:
    """Admit each image; returns the request ids. With `without_consumers` no consumer need be alive."""
    admission = Admission(redis, TINY, result_ttl_s=120)
    ids = []
    for image in images:
        height, width, _ = image.shape
        entry = Entry(uuid.uuid4().hex, "", top, height, width, image.tobytes())
        await admission.admit(
            entry, timeout_s=timeout_s, max_backlog=100_000, stream=stream, without_consumers=without_consumers
        )
        ids.append(entry.id)
    return ids


async def outcomes(redis: Redis, ids: list[str], *, timeout_s: float = 30) -> list[Outcome]:
    """The outcomes of all, as soon as all are there."""
    store = Store(redis, TINY)

    async def all_there() -> bool:
        return all(isinstance(state, Done | Failed) for state in await store.states(ids))

    await eventually(all_there, f"{len(ids)} outcomes", timeout_s=timeout_s)
    return [state for state in await store.states(ids) if isinstance(state, Done | Failed)]


def assert_right(outcome: Outcome, image: NDArray[np.uint8], *, seed: int = 7) -> None:
    """The outcome is what NumPy computes for this very image, within float32's rounding."""
    assert isinstance(outcome, Done), outcome
    truth = tiny_model.expected(image[None], tiny_model.weights(seed=seed))[0]
    answer = np.zeros_like(truth)
    answer[list(outcome.indices)] = outcome.probabilities
    np.testing.assert_allclose(answer, truth, atol=1e-5)


async def held(redis: Redis) -> int:
    """Entries delivered and not completed."""
    pending = await redis.xpending(TINY.entries, GROUP)
    return int(pending["pending"])
