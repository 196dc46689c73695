"""A batch of deliveries in an input buffer, the pool of buffers, and the checks and ranking of outputs. No I/O."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream.entry import DamagedEntry, Entry
from stream.group import Delivery
from stream.model import ModelDescription, OutputKind

#: Input of one batch: [max_batch, height, width, channels] of uint8, or of float32 if pixels have fractions.
Buffer = NDArray[Any]


@dataclass(slots=True)
class Batch:
    """Deliveries of one partition whose pixels lie in `buffer`; row i belongs to `deliveries[i]`.

    `filled_s` is a time of the monotonic clock.
    """

    deliveries: list[Delivery]
    buffer: Buffer
    partition: int = 0
    filled_s: float = field(default_factory=time.monotonic)

    @classmethod
    def fill(cls, buffer: Buffer, deliveries: Iterable[Delivery], *, partition: int = 0) -> Self:
        """Bring each image into its row.

        Most were read into it. A claimed image is copied, and rows move up where a delivery in between was left out;
        in this order no row is written before it was moved.
        """
        batch = cls(list(deliveries), buffer, partition)
        if buffer.dtype != np.uint8:
            for row, delivery in zip(buffer, batch.deliveries, strict=False):
                row[:] = with_fractions(entry_of(delivery)).reshape(row.shape)
            return batch
        for row, delivery in zip(buffer.reshape(len(buffer), -1), batch.deliveries, strict=False):
            pixels = np.frombuffer(entry_of(delivery).pixels, np.uint8)
            if not np.may_share_memory(row, pixels):
                row[:] = pixels
        return batch

    def __len__(self) -> int:
        return len(self.deliveries)

    def keep(self, rows: list[int]) -> None:
        """Remove all rows but these (ascending)."""
        if len(rows) < len(self.deliveries):
            self.buffer[: len(rows)] = self.buffer[rows]
            self.deliveries = [self.deliveries[row] for row in rows]


class BufferPool:
    """The input buffers of a consumer: free ones, and batches that wait for the model; `None` after the last batch.

    Fetchers get buffers in the order in which they ask, so that none starves.
    """

    def __init__(self, new: Callable[[], Buffer], count: int) -> None:
        self._new, self._dtype = new, new().dtype
        self.free: asyncio.Queue[Buffer] = asyncio.Queue()
        for _ in range(count):
            self.free.put_nowait(new())
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._count = count
        self._idle = asyncio.Event()

    def replace(self, new: Callable[[], Buffer]) -> None:
        """Another version is served, which may take another type of pixels."""
        self._new, self._dtype = new, new().dtype
        for _ in range(self.free.qsize()):
            self.free.put_nowait(self.fitting(self.free.get_nowait()))

    def fitting(self, buffer: Buffer) -> Buffer:
        """This buffer, or a new one if it was made for a version with another type of pixels."""
        return buffer if buffer.dtype == self._dtype else self._new()

    async def idle(self) -> None:
        """Wait until no batch runs or waits for the model."""
        if self.free.qsize() < self._count:
            self._idle.clear()
            await self._idle.wait()

    def put_back(self, buffer: Buffer) -> None:
        """The buffer may be filled again."""
        self.free.put_nowait(self.fitting(buffer))
        if self.free.qsize() == self._count:
            self._idle.set()

    def end(self) -> None:
        """No further batch will be queued."""
        self.batches.put_nowait(None)


def entry_of(delivery: Delivery) -> Entry:
    """The entry of a delivery that is known to be well-formed."""
    assert isinstance(delivery.entry, Entry)
    return delivery.entry


def with_fractions(entry: Entry) -> NDArray[np.float32]:
    """Pixels of 0..255. Fractions are missing if ingest does not know yet that the model takes them."""
    pixels = np.frombuffer(entry.pixels, np.uint8).astype(np.float32)
    if entry.fractions:
        pixels += np.frombuffer(entry.fractions, np.uint8) * np.float32(1 / 256) - np.float32(0.5)
    return pixels


def shape_of(entry: Entry) -> tuple[int, int, int]:
    """Height, width and channels of an entry's image."""
    return entry.height, entry.width, entry.channels


def is_prepared_for(model: ModelDescription, delivery: Delivery) -> bool:
    """Whether the entry is well-formed and its image was prepared as this version of the model wants it."""
    entry = delivery.entry
    return isinstance(entry, Entry) and entry.preparation in {"", model.preparation} and shape_of(entry) == model.shape


def request_of(delivery: Delivery) -> str:
    """The id of the request that a delivery is for; empty where the entry could not be read."""
    return delivery.entry.id if isinstance(delivery.entry, Entry | DamagedEntry) else ""


#: Rounding in fp16 moves a sum of 1,000 probabilities by less than 0.01; outputs that are no probabilities are further
#: away.
_SUM_TOLERANCE = 0.05
_RANGE_TOLERANCE = 0.01


@np.errstate(invalid="ignore")
def invalid_rows(outputs: NDArray[np.float32], kind: OutputKind) -> dict[int, str]:
    """What is wrong with outputs float32 [N, outputs] of this kind, by row; empty if all can be served."""
    total, low = outputs.sum(axis=1), outputs.min(axis=1)
    if kind in {"classes", "binary"} and bool(((low >= 0) & (np.abs(total - 1) <= _SUM_TOLERANCE)).all()):
        return {}
    found = {}
    for row in np.flatnonzero(~np.isfinite(outputs).all(axis=1)).tolist():
        found[row] = "the model's output is not finite (NaN or infinity)"
    if kind == "values":
        return found
    high = outputs.max(axis=1)
    wrong = (low < -_RANGE_TOLERANCE) | (high > 1 + _RANGE_TOLERANCE)
    if kind != "labels":
        wrong |= np.abs(total - 1) > _SUM_TOLERANCE
    for row in np.flatnonzero(wrong).tolist():
        added = "" if kind == "labels" else f", which add up to {total[row]:.4g}"
        found.setdefault(row, f"the model's outputs, {low[row]:.4g} to {high[row]:.4g}{added}, are no probabilities")
    return found


#: Classes of one image and their probabilities, most probable first.
Ranked = tuple[tuple[int, ...], tuple[float, ...]]


def top(probabilities: NDArray[np.float32], counts: Sequence[int]) -> list[Ranked]:
    """For each row of float32 [N, classes] its `count` most probable classes; all, in class order, for 0.

    Equal probabilities come in class order, whatever `count` is.
    """
    ranked: dict[int, Ranked] = {}
    for count in set(counts):
        rows = [row for row, wanted in enumerate(counts) if wanted == count]
        ranked |= zip(rows, _top(probabilities[rows], count), strict=True)
    return [ranked[row] for row in range(len(counts))]


def _top(probabilities: NDArray[np.float32], count: int) -> Iterable[Ranked]:
    classes = probabilities.shape[1]
    if count == 0:
        every = tuple(range(classes))
        return [(every, tuple(row)) for row in probabilities.tolist()]
    count = min(count, classes)
    # A partition finds the candidates in O(classes); it breaks ties arbitrarily, so all ties at the edge compete.
    edges = np.partition(probabilities, classes - count, axis=1)[:, classes - count, np.newaxis]
    rows, candidates = np.divmod(np.flatnonzero(probabilities >= edges), classes)  # a fifth of np.nonzero's time
    values = probabilities[rows, candidates]
    order = np.lexsort((-values, rows))
    indices, best = candidates[order].tolist(), values[order].tolist()
    bounds = np.searchsorted(rows, range(len(probabilities) + 1)).tolist()
    # Where a model answers NaN, a row may have fewer candidates than were asked for.
    spans = [slice(begin, min(begin + count, end)) for begin, end in pairwise(bounds)]
    return [(tuple(indices[span]), tuple(best[span])) for span in spans]
