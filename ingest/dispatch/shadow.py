"""Runs images through the candidate of a release after their clients have been answered, and compares the predictions.

A shadow image is the first to go: it waits in the class of bulk images, one is under way at a time, and none is sent
while a backlog waits. After each there is a pause, so that a busy service compares only a sample. Nothing of it reaches
a client.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Final

from redis.exceptions import RedisError

from ingest.dispatch.partition_client import PartitionClient, PreparedImage
from ingest.dispatch.partitions import Partitions, Versions
from ingest.dispatch.release import ReleaseRouter
from ingest.errors import Problem, problem_of
from results.outcome import Done, Failed
from stream.admission import AdmissionRefused
from stream.keys import new_id

logger = logging.getLogger(__name__)

#: The pause after a shadow image, in times of what it took. Consumers of both versions may share one processor: without
#: a pause, clients that kept it busy waited almost twice as long (two cores). With it, at most a twentieth is taken.
_PAUSE: Final = 19.0

#: The longest pause, in seconds.
_MAX_PAUSE_S: Final = 5.0

#: Images that may wait when a shadow image is sent: one batch of the default size.
_SMALL_BACKLOG: Final = 32

#: A shadow image that waits longer is dropped, in seconds.
_TIMEOUT_S: Final = 10.0

#: A label, and the number of equal labels before it. For an output without a label: an empty text and its number.
_Name = tuple[str, int]


class Shadow:
    """Sends the images of one model to its candidate. `ingest` names the process that waits for the outcomes."""

    def __init__(self, partitions: Partitions, versions: Versions, *, ingest: str) -> None:
        self._partitions = partitions
        self._versions = versions
        self._ingest = ingest
        self._comparing: asyncio.Task[None] | None = None
        self._next_s = 0.0

    def offer(self, router: ReleaseRouter, image: PreparedImage, done: Done) -> None:
        """Compare this prediction with the candidate's, if there is room. Returns at once, and raises nothing."""
        if not router.release.shadow or image.version != router.release.stable:
            return  # The release had not begun when the request came.
        candidate = router.shadow
        comparable = candidate and done.version == image.version and not done.cached
        if not comparable or self._comparing or time.monotonic() < self._next_s:
            router.counts.add("dropped")
            return
        self._comparing = asyncio.create_task(self._compare_and_pause(router, image, done, candidate))

    async def _compare_and_pause(self, router: ReleaseRouter, image: PreparedImage, done: Done, candidate: str) -> None:
        began_s = time.monotonic()
        try:
            await self._compare(router, image, done, candidate)
        finally:
            ended_s = time.monotonic()
            self._next_s = ended_s + min(_PAUSE * (ended_s - began_s), _MAX_PAUSE_S)
            self._comparing = None

    async def _compare(self, router: ReleaseRouter, image: PreparedImage, done: Done, candidate: str) -> None:
        try:
            began_s = time.perf_counter()
            partition = self._partitions.candidates()[0]
            answer = await self._ask(partition, image, done.version, candidate)
            if answer is None:
                router.counts.add("dropped")
                return
            took_s = time.perf_counter() - began_s
            labels = await self._versions.described(done.version, done.digest)
            theirs = await self._versions.described(answer.version, answer.digest)
        except (Problem, TimeoutError) as error:
            logger.debug("a shadow image failed: %s", error)
            router.counts.add("failed")
            return
        if answer.version != candidate:
            router.counts.add("failed")  # Its consumers have died, and another version has taken the image over.
            return
        agreed, difference = compare(done, labels.labels, answer, theirs.labels)
        router.counts.add("compared")
        router.counts.add("seconds", took_s)
        router.counts.largest = max(router.counts.largest, difference)
        if agreed:
            router.counts.add("agreed")

    async def _ask(self, partition: PartitionClient, image: PreparedImage, stable: str, candidate: str) -> Done | None:
        """The candidate's prediction with all of its classes; None if the image was not sent because of the load.

        Raises a Problem, or TimeoutError.
        """
        # The id is nobody's, so that no client can fetch the outcome.
        whole = replace(image, top=0, decoding_s=0.0, webhook=None)
        entry = whole.entry(new_id(partition.number), reply=self._ingest)
        try:
            reply = await partition.send_if_idle(
                entry, candidate, busy=[stable, candidate], max_backlog=_SMALL_BACKLOG, timeout_s=_TIMEOUT_S
            )
        except AdmissionRefused:
            return None
        if reply is None:
            return None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                outcome = await reply
            if isinstance(outcome, Failed):
                raise problem_of(outcome)
            return outcome
        finally:
            reply.cancel()
            with suppress(RedisError):
                await partition.store.delete(entry.id)


def compare(done: Done, labels: tuple[str, ...], answer: Done, their_labels: tuple[str, ...]) -> tuple[bool, float]:
    """Whether two predictions for one image have the same first label, and their largest difference.

    That is the largest difference of a label's probability over the labels in `done`; a label that the other model does
    not have counts as 0 there. Models that give values have outputs instead of labels.
    """
    mine, theirs = _by_label(done, labels), _by_label(answer, their_labels)
    difference = max(abs(value - theirs.get(label, 0.0)) for label, value in mine.items())
    return _first(mine) == _first(theirs), difference


def _by_label(done: Done, labels: tuple[str, ...]) -> dict[_Name, float]:
    names = _names(labels)
    keys = (names[index] if done.output_kind != "values" else ("", index) for index in done.indices)
    return dict(zip(keys, done.probabilities, strict=True))


@lru_cache(maxsize=8)
def _names(labels: tuple[str, ...]) -> tuple[_Name, ...]:
    """Each label with the number of equal ones before it: in ImageNet, crane is a bird and a machine."""
    seen: Counter[str] = Counter()
    names = []
    for label in labels:
        names.append((label, seen[label]))
        seen[label] += 1
    return tuple(names)


def _first(values: Mapping[_Name, float]) -> _Name:
    return max(values, key=lambda name: values[name])
