"""A steady load of images over HTTP, each answer held against what the model says."""

import threading
import time
from collections import Counter
from itertools import pairwise
from types import TracebackType
from typing import Self

import httpx

from tests.ingest.test_app import png, ranked
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

#: A client that is refused waits so long, in seconds, as a kind one would.
_PATIENCE_S = 0.05


class SteadyLoad:
    """Clients that send one image after the other, until the end of the block; `answers` counts what became of them.

    `right`, `wrong`, or the code of the problem; `broken` where there was no answer. `right_s` has the times of the
    right ones, in seconds of the monotonic clock.
    """

    def __init__(self, url: str, *, clients: int = 4) -> None:
        self._url = url
        self._images = random_images(50)
        self._bodies = [png(image) for image in self._images]
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        self.answers: Counter[str] = Counter()
        self.right_s: list[float] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int, *, timeout_s: float = 30) -> None:
        """Return when so many more are answered rightly."""
        before = len(self.right_s)
        wait_until(
            lambda: len(self.right_s) >= before + count, f"{count} more right answers: {self.answers}",
            timeout_s=timeout_s,
        )  # fmt: skip

    def longest_gap_s(self) -> float:
        """The longest time between two right answers of anybody's."""
        times = sorted(self.right_s)
        return max(after - before for before, after in pairwise(times))

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._ending.is_set():
                what = self._send(client, number % len(self._images))
                self.answers[what] += 1
                if what == "right":
                    self.right_s.append(time.monotonic())
                else:
                    self._ending.wait(_PATIENCE_S)
                number += len(self._threads)

    def _send(self, client: httpx.Client, which: int) -> str:
        try:
            answer = client.post("/predict", content=self._bodies[which])
        except httpx.TransportError:
            return "broken"
        body = answer.json()
        if answer.status_code != 200:
            return str(body["code"])
        return "right" if body["predictions"] == ranked(self._images[which]) else "wrong"
