"""The classic worker: looks at the list four times a second, takes up to 32, classifies, stores, trims."""

import base64
import json
import os
import time

import numpy as np
import redis

from bench.classic.server import HEIGHT, POLL_S, QUEUE, WIDTH
from bench.peers.work import CORES, Network

BATCH_SIZE = 32


def main() -> None:
    network = Network(threads=CORES)
    db = redis.Redis(port=int(os.environ["BENCH_REDIS_PORT"]))
    while True:
        queued = [json.loads(item) for item in db.lrange(QUEUE, 0, BATCH_SIZE - 1)]
        if queued:
            batch = np.vstack([pixels(item["image"]) for item in queued]).astype(np.uint8)
            for item, probabilities in zip(queued, network.probabilities(batch), strict=True):
                db.set(item["id"], json.dumps(network.answer(probabilities)["predictions"]))
            db.ltrim(QUEUE, len(queued), -1)
        time.sleep(POLL_S)


def pixels(encoded: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.frombuffer(base64.b64decode(encoded), np.float32).reshape(1, HEIGHT, WIDTH, 3)


if __name__ == "__main__":
    main()
