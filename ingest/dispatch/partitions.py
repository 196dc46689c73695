"""The partitions of one model, which of them takes the next image, and the versions that live consumers serve."""

import asyncio
import random
from collections.abc import Iterator

from ingest.dispatch.partition_client import PartitionClient
from ingest.errors import (
    RETRY_S,
    DamagedInRedis,
    MixedVersions,
    NoConsumer,
    StreamUnavailable,
    UnknownModel,
    redis_errors_as_503,
)
from results.outcome import Done
from stream.connection.clients import Connections
from stream.keys import Partition, partition_of
from stream.model import ModelDescription
from stream.presence import ConsumerReport
from stream.settings import IngestSettings


class Partitions:
    """A client for each partition that this ingest sends to, and for those that other ingests use or used.

    An image goes to any of the first `partitions`. Unavailable partitions, and those without a consumer, are skipped.
    """

    def __init__(self, connections: Connections, settings: IngestSettings, model: str, *, ingest: str) -> None:
        self._connections = connections
        self._settings = settings
        self._model = model
        self._ingest = ingest
        self._all: list[PartitionClient] = []

    def __iter__(self) -> Iterator[PartitionClient]:
        return iter(self._all)

    def ensure(self, count: int) -> list[PartitionClient]:
        """Have at least this many partitions, and those of the settings. Returns the new ones."""
        numbers = range(len(self._all), max(count, self._settings.partitions))
        new = [
            PartitionClient(self._connections, self._settings, Partition(self._model, number), ingest=self._ingest)
            for number in numbers
        ]
        self._all += new
        return new

    async def refresh(self) -> None:
        """Refresh all at once; raises redis-py's error, or TimeoutError, if none can be reached."""
        errors = await asyncio.gather(*(partition.refresh() for partition in self._all))
        if all(errors) and errors[0]:
            raise errors[0]

    def of_request(self, request_id: str) -> PartitionClient | None:
        """The partition that a request was sent to; None if there is no such partition."""
        number = partition_of(request_id)
        return self._all[number] if number < len(self._all) else None

    def of_reserved(self, request_id: str) -> PartitionClient:
        """The partition that an id from here names."""
        partition = self.of_request(request_id)
        assert partition, "a reserved id names a partition that exists"
        return partition

    def candidates(self, preparation: str = "") -> list[PartitionClient]:
        """The partitions that may take an image, in random order. If none may, one that says why.

        First come those with a consumer that runs images with this `preparation`: while versions replace each other,
        a consumer may have joined some partitions only.
        """
        sending = self._all[: self._settings.partitions]
        usable = [partition for partition in sending if self._usable(partition)]
        if len(usable) > 1:
            random.shuffle(usable)
            usable.sort(key=lambda partition: not partition.state.runs(preparation))
        return usable or sending[:1]

    def _usable(self, partition: PartitionClient) -> bool:
        return not partition.state.unavailable_reason and bool(
            partition.state.consumers or self._settings.accept_without_consumers
        )

    @property
    def takes_images(self) -> bool:
        """Whether at least one partition takes images at present."""
        return len(self.degraded) < self._settings.partitions

    @property
    def degraded(self) -> list[tuple[int, str]]:
        """Partitions that take no image at present, and why."""
        return [
            (partition.number, partition.state.unavailable_reason or "no consumer is alive")
            for partition in self._all[: self._settings.partitions]
            if not self._usable(partition)
        ]


class Versions:
    """The live consumers of a model, and the descriptions that they announced.

    `without_consumers`: images are accepted while no consumer is alive, for any version that was ever announced.
    """

    def __init__(self, partitions: Partitions, model: str, *, without_consumers: bool) -> None:
        self._partitions = partitions
        self._model = model
        self._without_consumers = without_consumers
        self._descriptions: dict[str, ModelDescription] = {}
        self.consumers: list[ConsumerReport] = []
        #: Those that will take images: while others come up, none that is leaving.
        self._staying: list[ConsumerReport] = []
        #: The preparations of those that take images, and of those that take them for any version.
        self._preparations: frozenset[str] = frozenset()
        self._any_version: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Read who is alive and what they serve; raises redis-py's errors or TimeoutError."""
        await self._partitions.refresh()
        for partition in self._partitions:
            unknown = any(self._is_unknown(one) for one in partition.state.consumers)
            expected = self._without_consumers and not self._descriptions
            if partition.state.answers and (unknown or expected):
                self._descriptions.update(await partition.state.versions())
        # Only now: nobody can send an image to a version that is not described. One consumer serves many partitions,
        # and reports to each by itself. It leaves all of them, and may read what is for any version in some.
        reports = [one for partition in self._partitions for one in partition.state.consumers]
        self.consumers = list({one.name: one for one in sorted(reports, key=lambda one: one.is_leaving)}.values())
        self._staying = [one for one in self.consumers if not one.is_leaving] or self.consumers
        self._preparations = frozenset(one.preparation for one in self._staying)
        self._any_version = frozenset(one.preparation for one in reports if one.reads_any)

    def _is_unknown(self, report: ConsumerReport) -> bool:
        """Whether a consumer serves a version that is not known here, or another file under a known version."""
        known = self._descriptions.get(report.version)
        return known is None or report.digest not in {"", known.digest}

    @property
    def served(self) -> list[str]:
        """The versions that live consumers serve, oldest first."""
        return sorted({one.version for one in self._staying}, key=int)

    @property
    def offered(self) -> list[str]:
        """The served versions whose description is known. If there need be no consumer: all that were announced."""
        if not self.consumers and self._without_consumers:
            return list(self._descriptions)
        described = [one for one in self.consumers if one.version in self._descriptions]
        return [one.version for one in described if one in self._staying] or [one.version for one in described]

    @property
    def newest(self) -> ModelDescription:
        """The newest version on offer. Raises NoConsumer."""
        offered = self.offered
        if not offered:
            raise NoConsumer(
                f"No consumer serves {self._model} at present. Send the request again later.", retry_after_s=RETRY_S
            )
        return self._descriptions[max(offered, key=int)]

    def takes(self, preparation: str) -> bool:
        """Whether images that were prepared so are of use, as far as is known: a live consumer runs them."""
        return not self.consumers or bool(self._preparations & {preparation, ""})

    def only_taker(self, model: ModelDescription) -> str:
        """The version that alone is to take an image prepared for it; empty if what waits for any version is
        prepared so.

        While versions replace each other that want images prepared differently, each has its own streams.
        """
        if not self.consumers or (self._any_version and self._any_version <= {model.preparation, ""}):
            return ""
        return model.version

    def require(self, version: str) -> None:
        """Raise UnknownModel unless a consumer serves this version."""
        if version not in self.served:
            raise UnknownModel(
                f"There is no version {version[:40]!r} of {self._model}. Served at present: {', '.join(self.served)}."
            )

    def refuse_other(self, wanted: str | None, answered: str) -> None:
        """Raise MixedVersions if one version is wanted and another has answered, since its last consumer died."""
        if wanted is None or answered == wanted:
            return
        raise MixedVersions(
            f"No consumer of version {wanted} of {self._model} is alive any more. Leave the version out, or send the "
            "request again when it is served.",
            retry_after_s=RETRY_S,
        )

    def known(self, version: str) -> ModelDescription | None:
        """The description of a version, None if it is not known here yet."""
        return self._descriptions.get(version)

    async def described(self, version: str, digest: str = "") -> ModelDescription:
        """The description of a version, read again if another file was announced under it. Raises StreamUnavailable."""
        known = self._descriptions.get(version)
        if known is None or digest not in {"", known.digest}:
            with redis_errors_as_503():
                await self._read()
            known = self._descriptions.get(version)
        if known is None:
            raise StreamUnavailable(
                f"Redis has lost the description of version {version}. Send the request again later.",
                retry_after_s=RETRY_S,
            )
        return known

    async def labels_of(self, done: Done) -> tuple[str, ...]:
        """The labels of the version that answered, which a consumer announced before its first outcome."""
        labels = (await self.described(done.version, done.digest)).labels
        if done.output_kind != "values" and max(done.indices, default=0) >= len(labels):
            raise DamagedInRedis(
                f"The result names a class that version {done.version} does not have. Send the image again.",
                request_id=done.id,
            )
        return labels

    async def _read(self) -> None:
        for partition in self._partitions:
            if partition.state.answers:
                self._descriptions.update(await partition.state.versions())
