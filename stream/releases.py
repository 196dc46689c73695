"""Releases: which versions of a model take its images, and what was counted meanwhile.

The command `sluice release` writes them, every ingest obeys them within a second. Consumers to which no setting names
a version load the stable one.

| state | stable version | candidate |
| --- | --- | --- |
| no release | there is none: any version takes an image | |
| share | takes the rest | takes a share of the requests, and answers them |
| shadow | takes and answers everything | gets the same images afterwards; its predictions are only compared |
| promoted or rolled back | takes everything | there is none |
"""

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream import unreadable
from stream.host.text import counted
from stream.keys import RELEASES, release_figures, valid_version
from stream.scripts import load

#: Figures of a release that has ended expire after this time.
_FIGURES_MS = 30 * 86_400_000

#: Requests that were sent to a version because of the release; the version follows.
_SENT = "sent:"

#: Stands for the version of requests that any version may take.
_ANY = "any"


class ReleaseError(ValueError):
    """There is nothing to promote or to roll back; the message says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """Which versions of one model take its images. Raises ValueError if a field makes no sense.

    `share` is the candidate's part of the requests, 0 to 1. `previous` was stable before the last promotion. Without a
    candidate both `share` and `shadow` are empty.
    """

    stable: str
    candidate: str = ""
    share: float = 0.0
    shadow: bool = False
    previous: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        if not (
            valid_version(self.stable)
            and all(valid_version(one) or one == "" for one in (self.candidate, self.previous))
        ):
            raise ValueError("a version of a release is no number")
        if self.candidate == self.stable:
            raise ValueError(f"version {self.stable} cannot be stable and candidate at once")
        if type(self.share) not in {int, float} or not 0 <= self.share <= 1 or not isinstance(self.shadow, bool):
            raise ValueError("the share of a release is no number from 0 to 1")
        if bool(self.candidate) != bool(self.share or self.shadow):
            raise ValueError("a candidate needs a share or a shadow, and neither is there without a candidate")
        if not (0 < len(str(self.id)) <= 64 and str(self.id).isalnum()):
            raise ValueError("the id of a release is no word")

    def promoted(self) -> "Release":
        """The candidate takes everything; raises ReleaseError."""
        if not self.candidate:
            raise ReleaseError(f"there is no candidate to promote; version {self.stable} takes everything")
        return Release(self.candidate, previous=self.stable)

    def rolled_back(self) -> "Release":
        """The stable version takes everything; without a candidate, the one that was stable before it."""
        if self.candidate:
            return replace(self, candidate="", share=0.0, shadow=False, id=secrets.token_hex(8))
        if self.previous:
            return Release(self.previous)
        raise ReleaseError(
            f"there is nothing to roll back: version {self.stable} takes everything, and none preceded it"
        )

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what `encode` wrote. Raises ValueError for anything else, and ignores fields of newer versions."""
        try:
            return cls(**{name: value for name, value in unreadable.parse_json(raw).items() if name in cls.__slots__})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a release: {error}") from error


@dataclass(slots=True)
class ReleaseCounts:
    """What one ingest has counted and not written yet, by the names of `ReleaseFigures`."""

    counts: dict[str, float] = field(default_factory=dict)
    largest: float = 0.0

    def add(self, name: str, count: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + count

    def merge(self, other: "ReleaseCounts") -> None:
        """Add what another one has counted."""
        for name, count in other.counts.items():
            self.add(name, count)
        self.largest = max(self.largest, other.largest)

    def sent(self, version: str) -> None:
        """A request went to this version; empty: to any."""
        self.add(f"{_SENT}{version or _ANY}")


@dataclass(frozen=True, slots=True)
class ReleaseFigures:
    """What all ingests have counted since the release began.

    `sent` has the requests by version. `fallbacks` were meant for a version without a live consumer, or with a full
    queue. Of the shadow's images, `compared` were answered by both versions, and in `agreed` of these both gave the
    same first label. Others were `dropped`, by sampling or under load, or `failed`. `largest` is the largest
    difference between the two probabilities of a label, or between two values. `seconds` is the sum of the candidate's
    times from sending to outcome.
    """

    sent: Mapping[str, int] = field(default_factory=dict)
    fallbacks: int = 0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    failed: int = 0
    seconds: float = 0.0
    largest: float = 0.0

    @property
    def agreement(self) -> float | None:
        """The part of the compared images on whose first label both versions agree; None before the first one."""
        return self.agreed / self.compared if self.compared else None

    @property
    def mean_s(self) -> float | None:
        """The candidate's mean time of a shadow image, in seconds; None before the first one."""
        return self.seconds / self.compared if self.compared else None


class Releases:
    """The releases of all models; `shared` is the client for keys that belong to no partition."""

    def __init__(self, shared: Redis) -> None:
        self._redis = shared
        self._add = load(shared, "stream.scripts", "add_release_figures")

    async def all(self) -> dict[str, Release]:
        """The releases in force, by model; one that cannot be read is skipped."""
        found: Any = await self._redis.hgetall(RELEASES)
        releases = {}
        for raw_name, raw in found.items():
            try:
                releases[raw_name.decode()] = Release.decode(raw)
            except ValueError as error:
                unreadable.skip("release", RELEASES, error)
        return releases

    async def of(self, model: str) -> Release | None:
        """The release of a model, if there is one."""
        return (await self.all()).get(model)

    async def stable(self, model: str, *, before: str = "") -> str:
        """The stable version of a model's release; empty if there is none.

        `before` is what it was, and stays if what is there cannot be read. Raises redis-py's errors.
        """
        try:
            raw: Any = await self._redis.hget(RELEASES, model)
            return Release.decode(raw).stable if raw else ""
        except (ValueError, ResponseError) as error:
            if isinstance(error, ResponseError) and not str(error).startswith("WRONGTYPE"):
                raise
            unreadable.skip("release", RELEASES, error)
            return before

    async def write(self, model: str, release: Release) -> None:
        await self._redis.hset(RELEASES, model, release.encode())

    async def clear(self, model: str) -> None:
        """From now on any version takes an image."""
        await self._redis.hdel(RELEASES, model)

    async def add(self, model: str, release: Release, counts: ReleaseCounts) -> None:
        """Add what was counted to the figures of this release."""
        flat = [item for pair in counts.counts.items() for item in pair]
        await self._add([release_figures(model, release.id)], [_FIGURES_MS, counts.largest, *flat])

    async def figures(self, model: str, release: Release) -> ReleaseFigures:
        """What all ingests have counted."""
        key = release_figures(model, release.id)
        try:
            raw: Any = await self._redis.hgetall(key)
            found = {name.decode(): float(value) for name, value in raw.items()}
            if not all(math.isfinite(value) and value >= 0 for value in found.values()):
                raise ValueError("a figure is no count")
        except (ValueError, ResponseError) as error:
            unreadable.skip("figure of a release", key, error)
            return ReleaseFigures()
        counts = {name: int(found.get(name, 0)) for name in ("fallbacks", "compared", "agreed", "dropped", "failed")}
        return ReleaseFigures(
            sent={name.removeprefix(_SENT): int(count) for name, count in found.items() if name.startswith(_SENT)},
            seconds=found.get("seconds", 0.0),
            largest=found.get("largest", 0.0),
            **counts,
        )


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """A release with its figures, for people and programs."""

    release: Release
    figures: ReleaseFigures

    def document(self) -> dict[str, Any]:
        """For programs."""
        about, figures = asdict(self.release), asdict(self.figures)
        del about["id"]
        return {**about, **figures, "agreement": self.figures.agreement, "mean_s": self.figures.mean_s}

    def line(self) -> str:
        """For people, in one line."""
        release, figures = self.release, self.figures
        parts = [_describe(release)]
        if figures.sent:
            named = (
                f"{counted(count, 'request')} to "
                f"{'whichever version was alive' if version == _ANY else f'version {version}'}"
                for version, count in sorted(figures.sent.items())
            )
            parts.append(f"so far {', '.join(named)}")
        if figures.fallbacks:
            parts.append(f"{figures.fallbacks} to another version: the wanted one had no live consumer or a full queue")
        if figures.agreement is not None:
            parts.append(
                f"both agree on {figures.agreement:.2%} of {figures.compared} images, largest difference "
                f"{figures.largest:.3g}, mean time {figures.mean_s or 0:.3f} s"
            )
        if figures.dropped or figures.failed:
            parts.append(f"{figures.dropped} not compared (only a sample is), {figures.failed} failed")
        return "; ".join(parts)

    def problems(self, served: set[str]) -> list[str]:
        """What is wrong while these versions have a live consumer."""
        wanted = (self.release.stable, self.release.candidate)
        return [
            f"The release names version {version}, and no consumer of it is alive."
            for version in wanted
            if version and version not in served
        ]


def _describe(release: Release) -> str:
    if not release.candidate:
        return f"version {release.stable} takes all images"
    share = [f"takes {100 * release.share:.4g} % of the requests"] if release.share else []
    what = " and ".join([*share, *(["is the shadow"] if release.shadow else [])])
    return f"version {release.candidate} {what}, version {release.stable} takes all others"


async def read_release(shared: Redis, model: str) -> ReleaseStatus | None:
    """The release of a model with its figures; None if there is none. Raises redis-py's errors."""
    releases = Releases(shared)
    release = await releases.of(model)
    return ReleaseStatus(release, await releases.figures(model, release)) if release else None
