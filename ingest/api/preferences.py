"""What a client prefers: the Prefer header (RFC 7240). Pure, knows no request."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?\s*(?:;[^,]*)?(?:,|$)""", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Preferences:
    """`respond_async`: an answer before the result is welcome. `wait_s`: how long to wait for the result first."""

    respond_async: bool = False
    wait_s: float | None = None

    @classmethod
    def parse(cls, headers: Iterable[str]) -> "Preferences":
        """All Prefer headers together; what is unknown or malformed is ignored, as the RFC asks. The first counts."""
        found: dict[str, str] = {}
        for match in _TOKEN.finditer(", ".join(headers)):
            name, quoted, plain = match.groups()
            found.setdefault(name.lower(), quoted or plain or "")
        wait = found.get("wait", "")
        wait_s = float(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else None
        return cls("respond-async" in found, wait_s)

    @property
    def deferred(self) -> bool:
        """Whether the client can do with a place to come back to."""
        return self.respond_async or self.wait_s is not None

    def wait_at_most_s(self, longest_s: float) -> float:
        """How long to wait before answering without the result."""
        return min(self.wait_s or 0.0, longest_s)

    def applied(self) -> str:
        """The Preference-Applied header."""
        names = ["respond-async"] if self.respond_async else []
        return ", ".join(names if self.wait_s is None else [*names, f"wait={self.wait_s:.0f}"])
