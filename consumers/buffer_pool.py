"""The belt: input buffers go round between the intakes, which fill them, and the model. Knows neither."""

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from consumers.batch import Batch

Slot = NDArray[np.uint8]

L = TypeVar("L")


class Belt(Generic[L]):
    """Slots to be filled and batches to be run, each with the lane L that it came from; None ends them.

    Lanes get slots in the order in which they ask, so that none starves; there are `lanes` of them.
    """

    def __init__(self, slots: Iterable[Slot]) -> None:
        self.slots: asyncio.Queue[Slot] = asyncio.Queue()
        for slot in slots:
            self.slots.put_nowait(slot)
        self.batches: asyncio.Queue[tuple[L, Batch] | None] = asyncio.Queue()
        self.stopping = asyncio.Event()
        self.lanes = 1

    def release(self, batch: Batch) -> None:
        """The batch has run: its slot may be filled again."""
        self.slots.put_nowait(batch.slot)

    def end(self) -> None:
        """Nothing more will be filled."""
        self.batches.put_nowait(None)
