"""The catalog: which models are served, and the dispatch to each. Learns from Redis, knows no file."""

import asyncio
import logging
import os
import secrets
import socket

from redis.exceptions import RedisError
from typing_extensions import TypedDict

from ingest.auth.owner import belongs_to_caller
from ingest.dispatch.model_client import Dispatch
from ingest.errors import BadParameter, NoConsumer, Problem, StreamUnavailable, UnknownModel, UnknownResult
from ingest.outage import RETRY_S
from results.store import State
from stream.connection.clients import Backoff, Connections
from stream.presence import partition_counts, raise_partition_count
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: How old the list of living consumers may be. Admission itself looks at the list in Redis; this one decides
#: how pictures are prepared and what `/readyz` says.
_REFRESH_S = 1.0

#: The same while no image is taken: a consumer may come at any moment, and whoever waits for it waits for this too.
_EXPECTANT_S = 0.1


class Degraded(TypedDict):
    """A partition that takes no image at present, and why."""

    model: str
    partition: int
    why: str


class Catalog:
    """All dispatches of one ingest process."""

    def __init__(self, connections: Connections, settings: IngestSettings) -> None:
        self._connections = connections
        self._settings = settings
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._dispatches: dict[str, Dispatch] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.outage: str | None = "Redis has not answered yet"
        #: Set once Redis was asked, whatever came of it.
        self.looked = asyncio.Event()

    async def run(self) -> None:
        """Keep the catalog fresh and receive replies until cancelled; survives any outage of Redis."""
        backoff = Backoff()
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                try:
                    await self._refresh()
                except (RedisError, TimeoutError) as error:
                    self.outage = f"Redis does not answer ({type(error).__name__})"
                    logger.log(backoff.log_level, "cannot refresh the catalog: %s", error)
                    self.looked.set()
                    await backoff.pause()
                else:
                    self.outage = None
                    self.looked.set()
                    backoff.reset()
                    await asyncio.sleep(_REFRESH_S if self.accepting else _EXPECTANT_S)

    async def _refresh(self) -> None:
        assert self._tasks is not None
        for name, count in (await self._counts()).items():
            dispatch = self._dispatches.get(name) or Dispatch(
                self._connections, self._settings, name, ingest=self._name
            )
            new = dispatch.routes.grow(count)
            if name not in self._dispatches:
                # Nothing runs for a model before it was reached once: the next attempt begins with another dispatch.
                await dispatch.refresh()
                self._dispatches[name] = dispatch
            for route in new:
                self._tasks.create_task(route.run())
            await dispatch.refresh()

    async def _counts(self) -> dict[str, int]:
        """How many partitions each model has; what is known where the list itself is away, in a Cluster."""
        try:
            counts = await partition_counts(self._connections.shared)
            for name, count in counts.items():
                if count < self._settings.partitions:
                    await raise_partition_count(self._connections.shared, name, self._settings.partitions)
        except RedisError:
            if not self._dispatches:
                raise
            return dict.fromkeys(self._dispatches, 1)
        return counts

    @property
    def degraded(self) -> list[Degraded]:
        """Partitions that take no image at present, of models that are served otherwise."""
        return [
            Degraded(model=name, partition=number, why=why)
            for name in self.accepting
            for number, why in self._dispatches[name].routes.degraded
        ]

    def refuse_in_outage(self) -> None:
        """Raise StreamUnavailable while Redis does not answer."""
        if self.outage:
            raise StreamUnavailable(f"{self.outage}.", retry_after_s=RETRY_S)

    async def locate(self, request_id: str) -> tuple[Dispatch, State]:
        """The dispatch that a request was made to, and where it stands; raises UnknownResult, StreamUnavailable."""
        if not self._dispatches:
            self.refuse_in_outage()
        # Of somebody else's request not even the existence is known: it is not looked for.
        for dispatch in self._dispatches.values() if belongs_to_caller(request_id) else ():
            state = await dispatch.state(request_id)
            if state != "unknown":
                return dispatch, state
        raise UnknownResult("There is no such request, or its result has expired. Send the image again.")

    @property
    def served(self) -> list[str]:
        """Names of the models that a living consumer serves."""
        return sorted(name for name, dispatch in self._dispatches.items() if dispatch.consumers)

    @property
    def accepting(self) -> list[str]:
        """Names of the models that images are taken for: those served and, where that is set, those to be served."""
        return sorted(name for name, dispatch in self._dispatches.items() if dispatch.accepts)

    def find(self, name: str | None) -> Dispatch:
        """The dispatch to a model, or to the default model.

        Raises UnknownModel, BadParameter or NoConsumer; StreamUnavailable where Redis does not say what there is.
        """
        wanted = name or self._settings.model or self._only()
        try:
            return self._dispatches[wanted]
        except KeyError:
            have = ", ".join(self.served) or "none"
            if name and not self.outage:
                raise UnknownModel(f"There is no model {wanted!r}. Served at present: {have}.") from None
            raise self._nobody(wanted) from None

    def _only(self) -> str:
        names = self.accepting
        if len(names) > 1:
            raise BadParameter(
                f"Several models are served; name one in the path: {', '.join(f'/predict/{name}' for name in names)}."
            )
        if not names and len(self._dispatches) == 1:
            return next(iter(self._dispatches))
        if not names:
            raise self._nobody("")
        return names[0]

    def _nobody(self, name: str) -> Problem:
        if self.outage:
            return StreamUnavailable(f"{self.outage}. Send the image again later.", retry_after_s=RETRY_S)
        return NoConsumer(
            f"No consumer serves {name or 'any model'}. Start one with: python -m consumers", retry_after_s=RETRY_S
        )
