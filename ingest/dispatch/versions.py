"""The versions of one model: which ones live consumers serve, and what each of them is."""

from ingest.dispatch.partitions import Partitions
from ingest.errors import RETRY_S, MixedVersions, NoConsumer, StreamUnavailable, UnknownModel, redis_errors_as_503
from stream.model import ModelDescription
from stream.presence import ConsumerReport


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

    async def refresh(self) -> None:
        """Read who is alive and what they serve; raises redis-py's errors or TimeoutError."""
        await self._partitions.refresh()
        # One consumer serves many partitions.
        alive = {one.name: one for partition in self._partitions for one in partition.consumers}
        self.consumers = list(alive.values())
        for partition in self._partitions:
            unknown = any(self._is_unknown(one) for one in partition.consumers)
            expected = self._without_consumers and not self._descriptions
            if not partition.unavailable_reason and (unknown or expected):
                self._descriptions.update(await partition.versions())

    def _is_unknown(self, report: ConsumerReport) -> bool:
        """Whether a consumer serves a version that is not known here, or another file under a known version."""
        known = self._descriptions.get(report.version)
        return known is None or report.digest not in {"", known.digest}

    @property
    def served(self) -> list[str]:
        """The versions that live consumers serve, oldest first."""
        return sorted({one.version for one in self.consumers}, key=int)

    @property
    def offered(self) -> list[str]:
        """The served versions whose description is known. If there need be no consumer: all that were announced."""
        if not self.consumers and self._without_consumers:
            return list(self._descriptions)
        return [one.version for one in self.consumers if one.version in self._descriptions]

    @property
    def newest(self) -> ModelDescription:
        """The newest version on offer. Raises NoConsumer."""
        offered = self.offered
        if not offered:
            raise NoConsumer(
                f"No consumer serves {self._model} at present. Start one with: python -m consumers --model "
                f"{self._model}",
                retry_after_s=RETRY_S,
            )
        return self._descriptions[max(offered, key=int)]

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

    async def _read(self) -> None:
        for partition in self._partitions:
            if not partition.unavailable_reason:
                self._descriptions.update(await partition.versions())
