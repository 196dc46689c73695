"""`python -m tests.chaos.webhooks`: kill senders of webhooks under load, and ingest and consumers between.

Exit status 1 unless each accepted image was delivered at least once, every signature is right, and the deliveries are
exactly one for each image once copies with the same webhook-id are dropped.
"""

import argparse
import asyncio
import base64
import random
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import httpx
from redis.asyncio import Redis
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.ingest.test_app import png
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.recorded_server import Recorded, body, serve
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server
from tests.support.waiting import eventually

_SECRET: Final = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_LOCAL: Final[dict[str, Any]] = {"webhooks": True, "outbound_http": True, "outbound_networks": "127.0.0.1/32"}
_SENDER: Final[dict[str, Any]] = {
    **_LOCAL, "webhook_secret": _SECRET, "webhook_timeout_s": 1, "webhook_retries_s": ",".join(["0.5"] * 30),
    "redis_timeout_s": 0.5,
}  # fmt: skip

#: Images per second, and seconds between two kills, on average.
_RATE: Final = 25.0
_PAUSE_S: Final = 0.8

#: After every third kill of a sender, the next one of these is killed.
_OTHERS: Final = ("consumer", "ingest")
_OTHERS_EVERY: Final = 3


@dataclass(slots=True)
class Report:
    """What was accepted, and the ids of the webhooks that brought each image's outcome."""

    kills: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    accepted: set[str] = field(default_factory=set)
    webhook_ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    deliveries: int = 0
    unverified: int = 0

    @property
    def missing(self) -> set[str]:
        return self.accepted - self.webhook_ids.keys()

    @property
    def doubled(self) -> set[str]:
        """Images whose outcome came under several webhook-ids."""
        return {request_id for request_id, ids in self.webhook_ids.items() if len(ids) > 1}

    @property
    def good(self) -> bool:
        return bool(self.accepted) and not (self.missing or self.doubled or self.unverified)

    def line(self) -> str:
        killed = ", ".join(f"{count} {name}s" for name, count in sorted(self.kills.items()))
        return (
            f"killed {killed}; accepted {len(self.accepted)}, requests to the receiver {self.deliveries}, "
            f"lost {len(self.missing)}, under several ids {len(self.doubled)}, wrong signatures {self.unverified}"
        )


class Run:
    """One run: two senders, two consumers, two ingests, and a receiver that fails now and then."""

    def __init__(self, processes: Processes, receiver: Recorded, *, seed: int) -> None:
        self._processes = processes
        self._receiver = receiver
        self._chance = random.Random(seed)
        self._image = png(random_images(1)[0])
        self._running: dict[str, list[Process]] = {
            "consumer": [processes.consumer(lease_s=2, redis_timeout_s=0.5) for _ in range(2)],
            "sender": [processes.start("ingest.webhooks", **_SENDER) for _ in range(2)],
        }
        ingests = [processes.ingest(**_LOCAL) for _ in range(2)]
        self._running["ingest"] = [process for process, _ in ingests]
        self._urls = [url for _, url in ingests]
        self.report = Report()

    async def go(self, kills: int) -> None:
        """Load and kills together, until so many senders were killed."""
        sending = asyncio.create_task(self._load())
        while self.report.kills["sender"] < kills:
            await asyncio.sleep(_PAUSE_S * self._chance.uniform(0.5, 1.5))
            self._kill("sender")
            number, rest = divmod(self.report.kills["sender"], _OTHERS_EVERY)
            if not rest:
                self._kill(_OTHERS[number % len(_OTHERS)])
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    def _kill(self, kind: str) -> None:
        """SIGKILL, and another one in its place."""
        number = self._chance.randrange(2)
        self._running[kind][number].kill()
        self.report.kills[kind] += 1
        match kind:
            case "sender":
                new = self._processes.start("ingest.webhooks", **_SENDER)
            case "consumer":
                new = self._processes.start("consumers", lease_s=2, redis_timeout_s=0.5)
            case _:
                new = self._processes.start("ingest", port=self._urls[number].rpartition(":")[2], **_LOCAL)
        self._running[kind][number] = new

    async def _load(self) -> None:
        async with httpx.AsyncClient(timeout=20) as client, asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._submit(client))
                await asyncio.sleep(self._chance.expovariate(_RATE))

    async def _submit(self, client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "respond-async", "Webhook-URL": f"{self._receiver.url}/"}
        try:
            url = f"{self._chance.choice(self._urls)}/predict"
            response = await client.post(url, content=self._image, headers=headers)
        except httpx.TransportError:
            return
        if response.is_success:
            self.report.accepted.add(response.json()["id"])

    def judge(self) -> Report:
        """Check each signature, and count each image's webhook-ids."""
        verifier = Webhook(_SECRET)
        self.report.deliveries = len(self._receiver.posts)
        for post in self._receiver.posts:
            try:
                document = verifier.verify(post.body, post.headers)
            except WebhookVerificationError:
                self.report.unverified += 1
                continue
            self.report.webhook_ids[document["data"]["id"]].add(post.headers["webhook-id"])
        return self.report


async def run(folder: Path, *, kills: int, seed: int = 1) -> Report:
    """Kill so many senders, then wait until nothing is left to deliver."""
    tiny_model.build(folder / "models")
    server = Server(folder, options={"appendonly": "yes", "appendfsync": "always"})
    server.start()
    try:
        with (
            serve({"/": _unreliable(random.Random(seed))}) as receiver,
            Processes(folder, redis_url=server.url, models_dir=folder / "models") as processes,
        ):
            chaos = Run(processes, receiver, seed=seed)
            await chaos.go(kills)
            async with Redis.from_url(server.url) as redis:
                await eventually(lambda: _nothing_left(redis), "all is delivered", timeout_s=120)
            return chaos.judge()
    finally:
        server.kill()


def _unreliable(chance: random.Random) -> Any:
    """Answers one of ten requests with 500, and keeps one of fifty waiting until its sender gives up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if chance.random() < 0.02:
            handler.rfile.read(1)
            return
        body(b"", status=500 if chance.random() < 0.1 else 204)(handler)

    return answer


async def _nothing_left(redis: Redis) -> bool:
    return await redis.xlen(TINY.entries) == await redis.xlen(TINY.webhooks) == 0


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.webhooks", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="senders to kill (default %(default)d)")
    parser.add_argument("--seed", type=int, default=1, help="decides what is killed, and when the receiver fails")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-webhooks-") as folder:
        report = asyncio.run(run(Path(folder), kills=given.kills, seed=given.seed))
    print(report.line())  # noqa: T201 (a command line)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
