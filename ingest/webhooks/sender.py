"""Delivers the webhooks of all models: one task for each partition, and a request for each attempt.

A sender holds a webhook only for one attempt, which has a limit. Those that wait for another attempt are in Redis. So a
sender that is killed loses nothing: another one, or the next, takes over what it held.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
from redis.exceptions import RedisError

from ingest.outbound.client import OutboundClient, Resolve, Unreachable
from ingest.outbound.policy import Policy, UrlRefused
from ingest.webhooks.message import Signer, body
from results.deliveries import Deliveries, Pending
from results.outcome import Done
from stream.connection.clients import AT_START, Backoff, Connections, connect_reader, is_temporary
from stream.host.logs import partition_context
from stream.keys import Partition
from stream.presence import Presence, partition_counts
from stream.settings import WebhookSettings
from stream.settings.outbound import listed

logger = logging.getLogger(__name__)

#: Attempts at the same time: of one partition, and to one host, so that a slow receiver does not hold up the others.
_AT_ONCE: Final = 64
_AT_ONCE_PER_HOST: Final = 16

#: Seconds between two looks for webhooks that are due again, and for new partitions.
_CLAIM_S: Final = 0.5
_LOOK_S: Final = 1.0

#: Bytes of a response that are read: enough to use the connection again.
_MOST_RESPONSE: Final = 65_536

#: The receiver does not want this webhook any more (Standard Webhooks, "Webhook delivery").
_GONE: Final = 410


class ReceiverBusy(Exception):
    """As many attempts to this host as there may be are in progress."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `for_good`: another one cannot succeed."""

    why: str
    for_good: bool = False


class Receivers:
    """Makes the requests. `None` as a result is success."""

    def __init__(self, settings: WebhookSettings, *, resolve: Resolve | None = None) -> None:
        policy = Policy.of(settings, settings.webhook_hosts)
        # Connections are kept for the next webhook, so there may be more of them than attempts.
        self._client = OutboundClient(policy, connections=4 * _AT_ONCE, resolve=resolve)
        self._timeout_s = settings.webhook_timeout_s
        self._in_progress: Counter[str] = Counter()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def post(self, url: str, text: str, headers: dict[str, str]) -> Failure | None:
        """One attempt, within `webhook_timeout_s`; raises ReceiverBusy."""
        try:
            target = self._client.policy.check_url(url)
        except UrlRefused as error:
            return Failure(f"the URL cannot be used: {error}", for_good=True)
        try:
            async with asyncio.timeout(self._timeout_s), self._limited(target.host):
                status = await self._post(target, text, headers)
        except TimeoutError:
            return Failure(f"no response within {self._timeout_s:g} s")
        except Unreachable as error:
            return Failure(str(error))
        return None if 200 <= status < 300 else Failure(f"the receiver responded with {status}", status == _GONE)

    @asynccontextmanager
    async def _limited(self, host: str) -> AsyncIterator[None]:
        if self._in_progress[host] >= _AT_ONCE_PER_HOST:
            raise ReceiverBusy
        self._in_progress[host] += 1
        try:
            yield
        finally:
            self._in_progress[host] -= 1
            if not self._in_progress[host]:
                del self._in_progress[host]

    async def _post(self, url: httpx.URL, text: str, headers: dict[str, str]) -> int:
        content = text.encode()
        sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
        async with self._client.request("POST", url, headers=sent, content=content) as response:
            size = 0
            async for chunk in response.aiter_stream():
                size += len(chunk)
                if size > _MOST_RESPONSE:
                    break
            return response.status


class PartitionSender:
    """Delivers the webhooks of one partition until cancelled."""

    def __init__(
        self,
        connections: Connections,
        settings: WebhookSettings,
        partition: Partition,
        receivers: Receivers,
        *,
        sender: str,
    ) -> None:
        redis = connections.client_for(partition)
        self._model = partition.model
        self._reader = connect_reader(settings, partition=partition)
        self._deliveries = Deliveries(
            redis,
            self._reader,
            partition,
            sender=sender,
            lease_s=lease_s(settings),
            delays_s=settings.webhook_delays_s,
            max_dead_letters=settings.max_dead_letters,
        )
        self._presence = Presence(redis, partition)
        self._receivers = receivers
        self._signer = Signer(listed(settings.webhook_secret.get_secret_value()))
        self._labels: dict[tuple[str, str], tuple[str, ...]] = {}
        self._held: dict[str, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Survives any outage of Redis. Cancelled, it finishes the attempts in progress."""
        await self._create_group()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._read))
                tasks.create_task(self._repeat(self._claim))
        finally:
            if self._held:
                await asyncio.wait(self._held.values())
            await self._reader.aclose()
            with suppress(RedisError):  # Another sender removes one that has not been heard of for long.
                await self._deliveries.leave()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while True:
            try:
                await step()
                backoff.reset()
            except RedisError as error:
                level = backoff.next_log_level(error) if is_temporary(error) else logging.ERROR
                logger.log(level, "cannot read webhooks: %s", error)
                await backoff.pause()
                await self._create_group()

    async def _create_group(self) -> None:
        try:
            await self._deliveries.create()
        except RedisError as error:
            logger.debug("cannot create the group: %s", error)

    async def _read(self) -> None:
        self._start(await self._deliveries.read(await self._room()))

    async def _claim(self) -> None:
        self._start(await self._deliveries.claim(await self._room()))
        await asyncio.sleep(_CLAIM_S)

    async def _room(self) -> int:
        """How many attempts may begin, at least one."""
        while len(self._held) >= _AT_ONCE:
            self._ended.clear()
            await self._ended.wait()
        return _AT_ONCE - len(self._held)

    def _start(self, found: list[Pending]) -> None:
        for pending in found:
            if pending.id not in self._held:  # A pause of this process can let its own lease end.
                self._held[pending.id] = asyncio.create_task(self._deliver(pending))

    async def _deliver(self, pending: Pending) -> None:
        try:
            await self._attempt(pending)
        except (RedisError, TimeoutError) as error:
            # It stays in our hands, and is taken over when the lease ends.
            logger.warning("the end of a delivery is not known to Redis: %s: %s", _names(pending), error)
        finally:
            del self._held[pending.id]
            self._ended.set()

    async def _attempt(self, pending: Pending) -> None:
        try:
            failure = await self._post(pending)
        except ReceiverBusy:
            await self._deliveries.put_off(pending)
            return
        except ValueError as error:
            failure = Failure(str(error), for_good=True)
        if failure is None:
            await self._deliveries.delivered(pending)
            return
        ending = await self._deliveries.failed(pending, failure.why, for_good=failure.for_good)
        if ending == "webhook_dead":
            logger.error("gave up a webhook: %s: %s", _names(pending), failure.why)
        else:
            logger.info("attempt %d of a webhook failed: %s: %s", pending.attempt, _names(pending), failure.why)

    async def _post(self, pending: Pending) -> Failure | None:
        """Raises ReceiverBusy, ValueError if something was damaged in Redis, and redis-py's errors."""
        if pending.is_spent:
            return Failure("the sender of the last attempt died", for_good=True)
        outcome, webhook = pending.outcome, pending.webhook
        labels = await self._labels_of(outcome) if isinstance(outcome, Done) else ()
        text = body(pending, model=self._model, labels=labels)
        owner = webhook.id.rpartition(".")[0]
        headers = self._signer.headers(pending.webhook_id, owner, text, datetime.now(UTC))
        return await self._receivers.post(webhook.url, text, headers)

    async def _labels_of(self, done: Done) -> tuple[str, ...]:
        """The labels of the version that answered. Raises ValueError if Redis has lost its description."""
        key = (done.version, done.digest)
        if key not in self._labels:
            described = (await self._presence.versions()).get(done.version)
            if described is None:
                raise ValueError(f"Redis has lost the description of version {done.version}")
            self._labels[key] = described.labels
        return self._labels[key]


class Sender:
    """Delivers the webhooks of all partitions of all models, until cancelled."""

    def __init__(self, settings: WebhookSettings, *, name: str, resolve: Resolve | None = None) -> None:
        self._settings = settings
        self._name = name
        self._receivers = Receivers(settings, resolve=resolve)
        self._running: dict[Partition, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Cancelled, it finishes the attempts in progress."""
        async with Connections(self._settings) as connections:
            try:
                await self._watch(connections)
            finally:
                for running in self._running.values():
                    running.cancel()
                await asyncio.gather(*self._running.values(), return_exceptions=True)
                await self._receivers.aclose()

    async def _watch(self, connections: Connections) -> None:
        """Serve each partition that there is or will be. A task that ends has failed, and so does this."""
        backoff = Backoff(quiet=AT_START)
        while True:
            try:
                self._start(connections, await partition_counts(connections.shared))
                if backoff.reset():
                    logger.info("Redis answers: the list of models is up to date")
            except RedisError as error:
                logger.log(backoff.next_log_level(error), "cannot read the list of models: %s", error)
                await backoff.pause()
            await asyncio.sleep(_LOOK_S)
            for task in self._running.values():
                if task.done():
                    task.result()

    def _start(self, connections: Connections, counts: dict[str, int]) -> None:
        for model, count in counts.items():
            for partition in (Partition(model, number) for number in range(count)):
                if partition not in self._running:
                    served = PartitionSender(connections, self._settings, partition, self._receivers, sender=self._name)
                    context = partition_context(partition.number)
                    self._running[partition] = asyncio.create_task(served.run(), context=context)


def _names(pending: Pending) -> str:
    """How logs name a webhook: by the request id, which a replay takes too, and by the id that its receiver knows."""
    try:
        return f"request={pending.webhook.id} webhook-id={pending.webhook_id}"
    except ValueError:  # It was damaged in Redis.
        return f"webhook={pending.id}"


def lease_s(settings: WebhookSettings) -> float:
    """After this time a webhook that a sender holds was left by a dead one: an attempt, and its end in Redis."""
    return 2 * settings.webhook_timeout_s + 4 * settings.redis_timeout_s
