"""mosec: its dynamic batches of up to 32, each decoded by a thread pool and classified in one run. Raw body."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from mosec import Server, Worker

from bench.peers.work import CORES, Network, port

#: Longest that mosec waits for a batch to fill, in milliseconds. The least it takes: nothing is gained by waiting.
_WAIT_MS = 1


class Classifier(Worker):  # type: ignore[misc]  # mosec is not checked here
    def __init__(self) -> None:
        self._network = Network(threads=CORES)
        self._pool = ThreadPoolExecutor(CORES)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        batch = np.stack(list(self._pool.map(self._network.pixels, data)))
        return [self._network.answer(row) for row in self._network.probabilities(batch)]

    def serialize(self, data: dict[str, Any]) -> bytes:
        return json.dumps(data).encode()


if __name__ == "__main__":
    sys.argv[1:] = ["--port", str(port()), "--address", "127.0.0.1", "--log-level", "warning", "--timeout", "60000"]
    server = Server()
    server.append_worker(Classifier, num=1, max_batch_size=32, max_wait_time=_WAIT_MS)
    server.run()
