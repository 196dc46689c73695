"""What a client can ask of `/predict`: options in the query or in JSON."""

from dataclasses import dataclass
from typing import Any, Final, Self

from starlette.datastructures import QueryParams

from ingest.errors import BadParameter
from ingest.openapi.operation import Parameter
from ingest.request_body import CONTENT_CODINGS
from stream.model import ModelDescription

TOP: Final = "top"
THRESHOLD: Final = "threshold"

#: How many labels a client gets if it does not say.
DEFAULT_TOP: Final = 5

THRESHOLD_SCHEMA: Final = {"type": "number", "minimum": 0, "maximum": 1}
THRESHOLD_PARAMETER: Final = Parameter(
    THRESHOLD,
    "query",
    "Only labels with at least this probability; all of them, unless top says less",
    THRESHOLD_SCHEMA,
)
CONTENT_ENCODING: Final = Parameter(
    "Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CONTENT_CODINGS)}
)


@dataclass(frozen=True, slots=True)
class Options:
    """`top`: how many labels. `threshold`: the lowest probability. None where the client did not say."""

    top: int | None = None
    threshold: float | None = None

    @classmethod
    def parse_query(cls, query: QueryParams) -> Self:
        """Raises BadParameter."""
        top = _only(query, TOP)
        return cls(None if top is None else _whole(top), parse_threshold(query))

    @classmethod
    def parse_json(cls, document: dict[str, Any]) -> Self:
        """Raises BadParameter."""
        top, threshold = document.get(TOP), document.get(THRESHOLD)
        if isinstance(top, float) and top.is_integer():
            top = int(top)  # In JSON, 3.0 is a whole number.
        if top is not None and type(top) is not int:
            raise _bad_top(top)
        if threshold is not None and type(threshold) not in {int, float}:
            raise _bad_threshold(threshold)
        return cls(top, None if threshold is None else _probability(threshold))

    def or_else(self, other: "Options") -> "Options":
        """These options, and the other ones where these say nothing."""
        return Options(
            other.top if self.top is None else self.top,
            other.threshold if self.threshold is None else self.threshold,
        )

    def top_for(self, model: ModelDescription) -> int:
        """How many labels to compute, at most all classes; 0 for a model that gives values. Raises BadParameter."""
        classes = len(model.labels)
        if model.output_kind == "values":
            if self != Options():
                raise BadParameter(f"{model.name} gives values, not labels. Leave out {TOP} and {THRESHOLD}.")
            return 0
        if self.top is None:
            return min(DEFAULT_TOP, classes) if self.threshold is None else classes
        if not 1 <= self.top <= classes:
            raise BadParameter(f"{TOP} is {self.top}; it must be one whole number from 1 to {classes}.")
        return self.top


def parse_threshold(query: QueryParams) -> float | None:
    """The threshold in the query; raises BadParameter."""
    threshold = _only(query, THRESHOLD)
    return None if threshold is None else _probability(threshold)


def _only(query: QueryParams, name: str) -> str | None:
    given = query.getlist(name)
    if len(given) > 1:
        shown = ", ".join(given)[:40]
        raise BadParameter(f"{name} is {shown!r}; it must be given once.")
    return given[0] if given else None


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _bad_top(text)
    return int(text)


def _probability(given: str | float) -> float:
    try:
        value = float(given) if not isinstance(given, str) or (given.isascii() and len(given) < 40) else -1.0
    except (ValueError, OverflowError):
        value = -1.0
    if not 0 <= value <= 1:
        raise _bad_threshold(given)
    return value


def _bad_top(given: object) -> BadParameter:
    return BadParameter(f"{TOP} is {str(given)[:40]!r}; it must be one whole number.")


def _bad_threshold(given: object) -> BadParameter:
    return BadParameter(f"{THRESHOLD} is {str(given)[:40]!r}; it must be a number from 0 to 1.")
