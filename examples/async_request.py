"""Queues images, and polls for their results: `async_request.py cat.jpg coffee.jpg`.

Copy it into your own code: it needs the package httpx, and nothing from Sluice. The idempotency key of an image is the
digest of its content: however often this program is started again, each image is classified once while its result is
kept.
"""

import argparse
import asyncio
import hashlib
import os
import sys
from pathlib import Path

import httpx

#: If the service asks for API keys, this variable has yours.
KEY = os.environ.get("SLUICE_API_KEY", "")

#: Longer than the deadline of the service (30 s by default), so that the service answers first.
TIMEOUT_S = 60

#: How long the service may wait for a result before it answers that there is none yet.
POLL_S = 10

#: Attempts after the first one, while the service is unavailable or busy.
RETRIES = 5

#: The statuses with which a request has no outcome yet (docs/api.md).
TRY_AGAIN = (408, 429, 502, 503)


async def main() -> int:
    parser = argparse.ArgumentParser(description="Queue images, and poll for their results.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="where Sluice is (default: %(default)s)")
    given = parser.parse_args()
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    async with httpx.AsyncClient(base_url=given.url, headers=headers, timeout=TIMEOUT_S) as client:
        outcomes = await asyncio.gather(*(classify(client, path) for path in given.images), return_exceptions=True)
    for path, outcome in zip(given.images, outcomes, strict=True):
        print(f"{path}: {outcome}")
    return 1 if any(isinstance(outcome, Exception) for outcome in outcomes) else 0


async def classify(client: httpx.AsyncClient, path: Path) -> str:
    """The most probable label. Raises RuntimeError with the service's reason, and OSError."""
    data = await asyncio.to_thread(path.read_bytes)
    headers = {"Prefer": "respond-async", "Idempotency-Key": hashlib.sha256(data).hexdigest()}
    for attempt in range(RETRIES + 1):
        await asyncio.sleep(min(attempt, 1))
        response = await send(client, "POST", "/predict", content=data, headers=headers)
        while response.status_code == 202:
            location = response.json()["location"]
            response = await send(client, "GET", location, headers={"Prefer": f"wait={POLL_S}"})
        if not must_be_sent_again(response):
            break
    body = response.json()
    if not body["success"]:
        raise RuntimeError(f"{response.status_code} {body['title']}: {body['detail']}")
    if "values" in body:  # a regression or an embedding
        return " ".join(f"{value:.4f}" for value in body["values"])
    best = body["predictions"][0]
    return f"{best['label']} {best['probability']:.4f}"


def must_be_sent_again(response: httpx.Response) -> bool:
    """Whether the image has an outcome, but only because its deadline has passed or Redis has damaged it."""
    return response.status_code == 504 or (response.status_code == 500 and "damaged_in_redis" in response.text)


async def send(
    client: httpx.AsyncClient, method: str, path: str, *, headers: dict[str, str], content: bytes | None = None
) -> httpx.Response:
    """Repeats a request that the service refuses for now or leaves unanswered. The idempotency key makes that safe."""
    for attempt in range(RETRIES + 1):
        pause_s = 1.0
        try:
            response = await client.request(method, path, headers=headers, content=content)
            if response.status_code not in TRY_AGAIN or attempt == RETRIES:
                return response
            pause_s = float(response.headers.get("Retry-After", pause_s))
        except httpx.TransportError as error:
            if attempt == RETRIES:
                raise RuntimeError(f"no response from {client.base_url}: {error}") from error
        await asyncio.sleep(pause_s)
    raise AssertionError("the loop always returns")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
