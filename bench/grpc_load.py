"""`python -m bench.grpc_load`: the rate of the Open Inference Protocol over gRPC beside that over REST.

One client in C, h2load (Debian's package nghttp2-client), sends the same image by both, in turns, so that neither a
client nor a busier machine decides. Both requests are those of tritonclient: an image as BYTES in binary form, and one
class wanted in binary form. h2load sends them in writes of 16 KiB, tritonclient in one. That costs ingest 0.03 ms more
per REST request, and 0.06 ms more per gRPC call. The service runs already:

    SLUICE_GRPC_PORT=5001 sluice serve efficientnet-lite0
    python -m bench.grpc_load --model efficientnet-lite0 --image cat.jpg
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.grpc_api import inference_pb2 as pb

_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
_ROUTE: Final = "/v2/models/{model}/infer"

#: Requests of the round that finds out how many make a slice.
_FIRST_REQUESTS: Final = 320

_ROUNDS: Final = 6

#: Seconds until ingest has written what it counted; it does so a few times a second.
_COUNTED_S: Final = 3.0

_SUMMARY: Final = re.compile(r"finished in [^,]+, ([\d.]+) req/s.*?requests: .*?(\d+) failed", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Transport:
    """How h2load sends the image. `route` is the transport's in ingest's metrics."""

    name: str
    route: str
    words: tuple[str, ...]


def transports(options: argparse.Namespace, folder: Path) -> tuple[Transport, Transport]:
    """REST and gRPC, with their requests in files of this folder."""
    image = options.image.read_bytes()
    data = len(image).to_bytes(4, "little") + image
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    output = {"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    (folder / "rest").write_bytes(head + data)
    request = pb.ModelInferRequest(model_name=options.model, raw_input_contents=[data])
    request.inputs.add(name="images", datatype="BYTES", shape=[1])
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    message = request.SerializeToString()
    (folder / "grpc").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    length = f"inference-header-content-length: {len(head)}"
    rest = f"http://{options.http}{_ROUTE.format(model=options.model)}"
    return (
        Transport("REST", _ROUTE, ("--h1", "-d", str(folder / "rest"), "-H", length, rest)),
        Transport(
            "gRPC",
            _METHOD,
            ("-d", str(folder / "grpc"), "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"http://{options.grpc}{_METHOD}"),
        ),
    )  # fmt: skip


def answered(http: str, route: str) -> float:
    """How many requests of this route ingest has answered with a prediction."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    wanted = f'sluice_requests_total{{route="{route}",status="200"}} '
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def measure(transport: Transport, requests: int, options: argparse.Namespace) -> tuple[float, int]:
    """Requests per second, and how many failed. h2load takes any gRPC call for a success, and ingest counts them."""
    before = answered(options.http, transport.route)
    command = ["h2load", "-c", str(options.clients), "-t", "1", "-m", "1", "-n", str(requests), *transport.words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = _SUMMARY.search(ran.stdout)
    if found is None:
        raise SystemExit(f"h2load says nothing of its requests:\n{ran.stdout}{ran.stderr}")
    end_s = time.monotonic() + _COUNTED_S
    while (counted := int(answered(options.http, transport.route) - before)) < requests and time.monotonic() < end_s:
        time.sleep(0.1)
    return float(found[1]), max(int(found[2]), requests - counted)


def main() -> int:
    """Print both rates. The status is 1 if a request failed, or if gRPC was slower; 2 without h2load."""
    parser = argparse.ArgumentParser(prog="python -m bench.grpc_load", description=__doc__)
    parser.add_argument("--http", default="127.0.0.1:5000", help="host:port of HTTP; default: %(default)s")
    parser.add_argument("--grpc", default="127.0.0.1:5001", help="host:port of gRPC; default: %(default)s")
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", type=Path, required=True, help="an image file that is sent each time")
    parser.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="for each protocol; default: %(default)s")
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        print("h2load is not installed: apt install nghttp2-client", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        both = transports(options, Path(folder))
        first = [measure(one, _FIRST_REQUESTS, options) for one in both]
        requests = int(min(rate for rate, _ in first) * options.seconds / _ROUNDS) + options.clients
        rounds = [[measure(one, requests, options) for one in both] for _ in range(_ROUNDS)]
    failed = sum(failed for found in (first, *rounds) for _, failed in found)
    for number, one in enumerate(both):
        rates = [found[number][0] for found in rounds]
        print(f"{one.name:5} {statistics.median(rates):8.1f} requests/s, {requests * _ROUNDS} requests")
    ratio = statistics.median(found[1][0] / found[0][0] for found in rounds)
    print(f"gRPC has {ratio:.2f} of the rate of REST; {failed} requests failed")
    return int(failed > 0 or ratio < 1)


if __name__ == "__main__":
    raise SystemExit(main())
