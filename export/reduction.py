"""What one reduction of an fp32 artefact to another precision is asked to do.  Knows not how that is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.artefact import repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """What is asked for; `version` None stands for the next free number."""

    precision: Literal["fp16", "int8"]
    pictures: Path | None
    min_agreement: float
    name: str | None
    version: int | None
    output: Path

    def target(self, source_name: str) -> Path:
        """Where the result of an artefact of this name belongs."""
        name = self.name or source_name
        number = self.version or repository.next_version(self.output, name=name)
        return repository.path(self.output, name=name, version=number)
