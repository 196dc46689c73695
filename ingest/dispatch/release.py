"""Chooses the version that takes a request, while a release is in force for its model."""

import hashlib
import random
from collections.abc import Collection, Mapping
from typing import Final

from ingest.auth.owner import owner
from stream.releases import Release, ReleaseCounts

#: A client may name itself, so that all of its requests go to one version.
CLIENT_HEADER: Final = "X-Sluice-Client"


def caller(headers: Mapping[str, str]) -> str:
    """Who makes a request, for as long as a share lasts: by the header, or by the API key. Empty if neither says so."""
    return headers.get(CLIENT_HEADER.lower()) or owner.get()


class ReleaseRouter:
    """One model's release as this ingest obeys it. `counts` are those that were not written to Redis yet."""

    def __init__(self, model: str, release: Release) -> None:
        self.release = release
        self.counts = ReleaseCounts()
        self._model = model
        self._live: frozenset[str] = frozenset()

    def refresh(self, live: Collection[str]) -> None:
        """Note which versions have a live consumer."""
        self._live = frozenset(live)

    def choose(self, who: str) -> str:
        """The version for a request of this caller; empty: any. The same caller gets the same one.

        A version without a live consumer is left out: the stable one takes its requests, and any version those of the
        stable one.
        """
        release = self.release
        wanted = release.candidate if self._draw(who) < release.share else release.stable
        chosen = next((version for version in (wanted, release.stable) if version in self._live), "")
        if chosen != wanted:
            self.counts.add("fallbacks")
        self.counts.sent(chosen)
        return chosen

    def _draw(self, who: str) -> float:
        """A number from 0 to 1: always the same for a caller, random for an unknown one.

        It does not depend on the share, so that those who got the candidate keep it when its share grows.
        """
        if not who:
            return random.random()  # noqa: S311 (no secret)
        subject = f"{self._model}/{self.release.candidate}/{who}".encode(errors="surrogateescape")
        return int.from_bytes(hashlib.blake2b(subject, digest_size=8).digest()) / (1 << 64)

    def yields(self, version: str) -> str:
        """The version that takes an image if this one's queue is full: for the candidate the stable one, else none."""
        release = self.release
        if version and version == release.candidate and release.stable in self._live:
            self.counts.add("fallbacks")
            return release.stable
        return ""

    @property
    def shadow(self) -> str:
        """The version that gets images to be compared; empty if there is none, or none of its consumers is alive."""
        release = self.release
        return release.candidate if release.shadow and release.candidate in self._live else ""

    def take_counts(self) -> ReleaseCounts | None:
        """What was counted since the last call; None if that is nothing."""
        if not self.counts.counts:
            return None
        taken, self.counts = self.counts, ReleaseCounts()
        return taken
