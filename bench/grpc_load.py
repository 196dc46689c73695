"""`python -m bench.grpc_load`: the rate of the Open Inference Protocol over gRPC beside that over REST.

Both get the same requests from as many clients, in turns, against a service that runs already:

    SLUICE_GRPC_PORT=5001 sluice serve efficientnet-lite0
    python -m bench.grpc_load --model efficientnet-lite0 --image cat.jpg
"""

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from tritonclient.grpc import aio as grpc
from tritonclient.http import aio as http
from tritonclient.utils import InferenceServerException

_ROUNDS: Final = 6


@dataclass(slots=True)
class Load:
    """What the clients of one protocol met."""

    latencies_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    labels: set[bytes] = field(default_factory=set)

    def line(self, name: str, seconds: float) -> str:
        ordered = sorted(self.latencies_s)
        return (
            f"{name:5} {len(ordered) / seconds:8.1f} requests/s   p50 {1000 * statistics.median(ordered):6.1f} ms   "
            f"p99 {1000 * ordered[int(0.99 * len(ordered))]:6.1f} ms   {len(self.errors)} errors   {self.labels}"
        )


async def measure(load: Load, clients: list[Any], module: Any, options: argparse.Namespace) -> None:  # noqa: ANN401
    """Send requests from all clients for one round. `module` is tritonclient's for this protocol."""
    encoded = np.array([options.image.read_bytes()], np.object_)
    images = module.InferInput("images", [1], "BYTES").set_data_from_numpy(encoded)
    outputs = [module.InferRequestedOutput("probabilities", class_count=1)]
    until = time.perf_counter() + options.seconds / _ROUNDS

    async def send(client: Any) -> None:  # noqa: ANN401 (tritonclient has no types)
        while (began := time.perf_counter()) < until:
            try:
                answer = await client.infer(options.model, [images], outputs=outputs)
                load.latencies_s.append(time.perf_counter() - began)
                load.labels.add(answer.as_numpy("probabilities")[0, 0])
            except InferenceServerException as error:
                load.errors.append(str(error))

    await asyncio.gather(*map(send, clients))


async def compare(options: argparse.Namespace) -> dict[str, Load]:
    """REST and gRPC in turns, so that neither has a busier machine."""
    over_http = [http.InferenceServerClient(options.http) for _ in range(options.clients)]
    # Otherwise all channels to one address share a connection.
    own = [("grpc.use_local_subchannel_pool", 1)]
    over_grpc = [grpc.InferenceServerClient(options.grpc, channel_args=own) for _ in range(options.clients)]
    loads = {"REST": Load(), "gRPC": Load()}
    for _ in range(_ROUNDS):
        await measure(loads["REST"], over_http, http, options)
        await measure(loads["gRPC"], over_grpc, grpc, options)
    for client in [*over_http, *over_grpc]:
        await client.close()
    return loads


def main() -> int:
    """Print both rates. The status is 1 if a request failed, or if gRPC was slower."""
    parser = argparse.ArgumentParser(prog="python -m bench.grpc_load", description=__doc__)
    parser.add_argument("--http", default="127.0.0.1:5000", help="host:port of HTTP; default: %(default)s")
    parser.add_argument("--grpc", default="127.0.0.1:5001", help="host:port of gRPC; default: %(default)s")
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", type=Path, required=True, help="an image file that is sent each time")
    parser.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="for each protocol; default: %(default)s")
    options = parser.parse_args()
    loads = asyncio.run(compare(options))
    for name, load in loads.items():
        print(load.line(name, options.seconds))
    failed = [error for load in loads.values() for error in load.errors]
    return int(bool(failed) or len(loads["gRPC"].latencies_s) < len(loads["REST"].latencies_s))


if __name__ == "__main__":
    raise SystemExit(main())
