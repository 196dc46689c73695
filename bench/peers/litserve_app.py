"""LitServe: its batches of up to 32, each decoded by a thread pool and classified in one run. Form uploads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from bench.peers.work import CORES, Network, port


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # LitServe is not checked here
    def setup(self, device: str) -> None:  # noqa: ARG002 (LitServe's interface)
        self._network = Network(threads=CORES)
        self._pool = ThreadPoolExecutor(CORES)

    def decode_request(self, request: Request) -> bytes:
        assert isinstance(request, FormData)  # LitServe parses the form, and declares the request
        upload = request["image"]
        assert isinstance(upload, UploadFile)
        return upload.file.read()

    def batch(self, inputs: list[bytes]) -> NDArray[np.uint8]:
        return np.stack(list(self._pool.map(self._network.pixels, inputs)))

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._network.probabilities(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        return self._network.answer(output)


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(max_batch_size=32, batch_timeout=0.001), accelerator="cpu", devices=1, timeout=60, fast_queue=True
    )
    server.run(host="127.0.0.1", port=port(), generate_client_file=False, log_level="warning")
