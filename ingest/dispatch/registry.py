"""The registry of served models, kept up to date from Redis, with a client for each."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.exceptions import RedisError, ResponseError
from typing_extensions import TypedDict

from ingest.auth.owner import belongs_to_caller
from ingest.dispatch.missing_consumers import MissingConsumers
from ingest.dispatch.model_client import ModelClient
from ingest.errors import RETRY_S, BadParameter, NoConsumer, Problem, StreamUnavailable, UnknownModel, UnknownResult
from results.store import State
from stream import unreadable
from stream.connection.clients import AT_START, Backoff, Connections
from stream.host.logs import partition_context
from stream.keys import LOADS, RELEASES, release_figures
from stream.load_requests import LoadRequests
from stream.presence import FORGOTTEN, listed_models, raise_partition_count
from stream.releases import Release, Releases
from stream.server_check import reason_of
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: How old the list of live consumers may be. Admission reads the list in Redis itself. This copy decides how images
#: are prepared, and what `/readyz` says.
_REFRESH_S: Final = 1.0

#: The same while no image is accepted. A consumer may start at any moment, and clients wait until ingest sees it.
_REFRESH_UNREADY_S: Final = 0.1


T = TypeVar("T")


class Degraded(TypedDict):
    """A partition that takes no image at present, and why."""

    model: str
    partition: int
    why: str


class ModelRegistry:
    """The clients of all models, for one ingest process."""

    def __init__(self, connections: Connections, settings: IngestSettings) -> None:
        self._connections = connections
        self._settings = settings
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._load_requests = LoadRequests(connections.shared)
        self._releases = Releases(connections.shared)
        self._clients: dict[str, ModelClient] = {}
        #: What operators want: models that are to be unloaded, and releases by model.
        self._unloaded: set[str] = set()
        self._wanted: dict[str, Release] = {}
        self._missing = MissingConsumers(settings)
        self._tasks: asyncio.TaskGroup | None = None
        #: What receives the replies of each model.
        self._receiving: dict[str, list[asyncio.Task[None]]] = {}
        self.outage: str | None = "Redis has not answered yet"
        #: Set after the first attempt to read from Redis, whether it succeeded or not.
        self.first_refresh = asyncio.Event()

    async def run(self) -> None:
        """Refresh the registry and receive replies until cancelled; survives any outage of Redis."""
        backoff = Backoff(quiet=AT_START)
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                try:
                    await self._refresh()
                except (RedisError, TimeoutError) as error:
                    self.outage = reason_of(error)
                    logger.log(backoff.next_log_level(error), "cannot refresh the model registry: %s", error)
                    self.first_refresh.set()
                    await backoff.pause()
                else:
                    self.outage = None
                    self._missing.note(self.served, sorted(self._clients))
                    self.first_refresh.set()
                    if backoff.reset():
                        logger.info("Redis answers: the model registry is up to date")
                    await asyncio.sleep(_REFRESH_S if self.accepting else _REFRESH_UNREADY_S)

    async def _refresh(self) -> None:
        for name, count in (await self._listed()).items():
            if count == FORGOTTEN:
                self._drop(name)
            else:
                await self._follow(name, count)
        await self._read_decisions()
        for client in self._clients.values():
            self._apply_decisions(client)
        await asyncio.gather(*(self._write_counts(client) for client in self._clients.values()))

    async def _follow(self, name: str, count: int) -> None:
        """Send images to this model, with so many partitions."""
        assert self._tasks is not None
        known = self._clients.get(name)
        client = known or ModelClient(self._connections, self._settings, name, ingest=self._name)
        new = client.partitions.ensure(count)
        if not known:
            # This raises if the model cannot be reached. The client is dropped then, and nothing runs for it yet.
            await client.versions.refresh()
            # Before a request can find it: the first one is to obey, too.
            await self._read_decisions()
            self._apply_decisions(client)
            self._clients[name] = client
        self._receiving.setdefault(name, []).extend(
            self._tasks.create_task(partition.run(), context=partition_context(partition.number)) for partition in new
        )
        if known:
            await client.versions.refresh()

    def _drop(self, name: str) -> None:
        """Drop a model that an operator has forgotten. None of its images waits: such a model is not forgotten."""
        if self._clients.pop(name, None):
            for task in self._receiving.pop(name):
                task.cancel()

    async def _read_decisions(self) -> None:
        """Read what operators want. In a Cluster its server may be unavailable: then all stays as it was."""
        self._unloaded, self._wanted = await asyncio.gather(
            self._or_as_before("load requests", LOADS, self._load_requests.unloaded, self._unloaded),
            self._or_as_before("releases", RELEASES, self._releases.all, self._wanted),
        )

    async def _or_as_before(self, what: str, key: str, read: Callable[[], Awaitable[T]], before: T) -> T:
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                return await read()
        except ResponseError as error:
            unreadable.skip(f"hash of {what}", key, error)
        except (RedisError, TimeoutError) as error:
            logger.debug("cannot read what operators want: %s", error)
        return before

    def _apply_decisions(self, client: ModelClient) -> None:
        client.unloaded = client.name in self._unloaded
        client.obey(self._wanted.get(client.name))

    async def _write_counts(self, client: ModelClient) -> None:
        """Add what was counted to the figures of the release. What cannot be written is tried again with the next."""
        if (router := client.release) is None or (counts := router.take_counts()) is None:
            return
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                await self._releases.add(client.name, router.release, counts)
        except (RedisError, TimeoutError, asyncio.CancelledError) as error:
            router.counts.merge(counts)  # After a lost reply they are counted twice.
            if isinstance(error, asyncio.CancelledError):
                raise
            if isinstance(error, ResponseError):
                unreadable.skip("hash of release figures", release_figures(client.name, router.release.id), error)

    async def _listed(self) -> dict[str, int]:
        """How many partitions each model has. In a Cluster the list itself may be unavailable: use what is known."""
        try:
            listed = await listed_models(self._connections.shared)
            for name, count in listed.items():
                if FORGOTTEN < count < self._settings.partitions:
                    await raise_partition_count(self._connections.shared, name, self._settings.partitions)
        except RedisError:
            if not self._clients:
                raise
            return dict.fromkeys(self._clients, 1)
        return listed

    @property
    def degraded(self) -> list[Degraded]:
        """Partitions that take no image at present, of models that accept images otherwise."""
        return [
            Degraded(model=name, partition=number, why=why)
            for name in self.accepting
            for number, why in self._clients[name].partitions.degraded
        ]

    @property
    def served(self) -> list[str]:
        """Names of the models that a live consumer serves."""
        return sorted(name for name, client in self._clients.items() if client.versions.consumers)

    @property
    def accepting(self) -> list[str]:
        """Names of the models that images are accepted for."""
        return sorted(name for name, client in self._clients.items() if client.accepts)

    def require_ready(self) -> list[str]:
        """The models that images are accepted for, at least one; raises StreamUnavailable or NoConsumer."""
        self.refuse_in_outage()
        if not self.accepting:
            unloaded = ", ".join(name for name, client in self._clients.items() if client.unloaded)
            why = f" Unloaded: {unloaded}." if unloaded else ""
            raise NoConsumer(f"No consumer with a warm model is alive.{why}", retry_after_s=RETRY_S)
        if not (ready := [name for name in self.accepting if self._clients[name].partitions.takes_images]):
            raise StreamUnavailable(self.degraded[0]["why"], retry_after_s=RETRY_S)
        return ready

    def refuse_in_outage(self) -> None:
        """Raise StreamUnavailable while Redis does not answer."""
        if self.outage:
            raise StreamUnavailable(f"{self.outage}.", retry_after_s=RETRY_S)

    async def locate(self, request_id: str) -> tuple[ModelClient, State]:
        """The model that a request was made to, and the request's state; raises UnknownResult, StreamUnavailable."""
        if not self._clients:
            self.refuse_in_outage()
        # A caller must not learn whether another's request exists, so such a request is not looked for.
        for client in self._clients.values() if belongs_to_caller(request_id) else ():
            state = await client.requests.state(request_id)
            if state != "unknown":
                return client, state
        raise UnknownResult("There is no such request, or its result has expired. Send the image again.")

    async def delete(self, request_id: str) -> bool:
        """Delete what is left of a request that has ended, of whichever model; raises StreamUnavailable.

        False if nothing is left. What belongs to another caller is not looked for.
        """
        clients = self._clients.values() if belongs_to_caller(request_id) else ()
        return any([await client.requests.delete(request_id) for client in clients])

    def find(self, name: str | None) -> ModelClient:
        """The client of a model, or of the default model.

        Raises UnknownModel, BadParameter or NoConsumer, and StreamUnavailable if Redis cannot say what is served.
        """
        wanted = name or self._settings.model or self._only()
        try:
            return self._clients[wanted]
        except KeyError:
            if name and not self.outage:
                served = ", ".join(self.served) or "none"
                raise UnknownModel(f"There is no model {wanted!r}. Served at present: {served}.") from None
            raise self._no_consumer(wanted) from None

    def find_served(self, name: str, version: str | None) -> ModelClient:
        """The client of a model that a consumer serves at present, in this version if one is named.

        Raises UnknownModel, NoConsumer, StreamUnavailable.
        """
        client = self.find(name)
        _ = client.model  # raises if no consumer serves it
        if version is not None:
            client.versions.require(version)
        return client

    def _only(self) -> str:
        names = self.accepting
        if len(names) > 1:
            raise BadParameter(
                f"Several models are known. Name one in the path: {', '.join(f'/predict/{name}' for name in names)}."
            )
        if not names and len(self._clients) == 1:
            return next(iter(self._clients))
        if not names:
            raise self._no_consumer("")
        return names[0]

    def _no_consumer(self, name: str) -> Problem:
        if self.outage:
            return StreamUnavailable(f"{self.outage}. Send the image again later.", retry_after_s=RETRY_S)
        return NoConsumer(
            f"No consumer serves {name or 'any model'}. Send the request again later.", retry_after_s=RETRY_S
        )
