"""What an export tells of the file that it wrote.  Knows nothing of how it came about."""

from dataclasses import dataclass
from pathlib import Path

from export.convert.parity import Parity


@dataclass(frozen=True, slots=True)
class Written:
    """`reference` names whose answers the parity is about."""

    path: Path
    size_bytes: int
    parity: Parity
    reference: str
