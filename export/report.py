"""What an export says about the artefact that it wrote."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from export.artefact.description import Assumption
from export.convert.parity import Parity

UNNAMED_LOADER = (
    "warning: nothing names the loader of the training, so the resize is a guess, and answers may differ from those of"
    " your notebook. Name the loader with --like, or measure it with --images"
)

CONTRADICTED = (
    "warning: the normalisation is {}. Leave --preprocess out, unless your training scaled the pixels before the model,"
    " too"
)

BY_ORDER = (
    "warning: no subfolder of --images ({}) is named as a label, so they count as the classes in this order. Name each"
    " as its class is named in --labels"
)

TWICE = "warning: the labels name {!r} twice. Responses cannot tell these classes apart"

OTHER_KIND = (
    "warning: the output kind is {} by --output-kind, although {}. Leave --output-kind out, unless you are sure of it"
)

CONSTANT = (
    "the model gives the same answer to every image, so the comparison proves little: is it trained, and is the"
    " normalisation right?"
)


def size(count: int) -> str:
    """Bytes in kB or MB of the SI."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. `reference` names whose answers the parity was measured against; `lines` are for the user.

    `warnings` say what may make the answers wrong.
    """

    path: Path
    size_bytes: int
    parity: Parity
    reference: str
    assumptions: Mapping[str, Assumption]
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def text(self, seconds: float) -> Iterator[str]:
        """Line by line, for an export that took so long."""
        yield (
            f"wrote {self.path}: {size(self.size_bytes)} in {seconds:.1f} s, compared with"
            f" {self.reference}: {self.parity}"
        )
        yield self.assumed
        yield from self.lines

    @property
    def assumed(self) -> str:
        """How the model is used, and why: one line for each decision."""
        return "\n".join(f"{subject} {assumption}" for subject, assumption in self.assumptions.items())
