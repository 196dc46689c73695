"""All settings of all processes, and the variables `SLUICE_...` that no setting has.

A misspelt variable would otherwise be ignored silently.
"""

import difflib
import logging
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stream.settings import ConsumerSettings, IngestSettings, QueueSettings, RedisSettings
from stream.settings.outbound import DeliverySettings, FetchSettings, OutboundSettings
from stream.settings.uploads import UploadSettings

#: Every class that declares settings, the general ones first.
CLASSES: Final[tuple[type[BaseModel], ...]] = (
    RedisSettings,
    QueueSettings,
    IngestSettings,
    UploadSettings,
    OutboundSettings,
    FetchSettings,
    DeliverySettings,
    ConsumerSettings,
)


def own_fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings that this class declares itself, in the order of the code."""
    return {name: kind.model_fields[name] for name in kind.__annotations__ if name in kind.model_fields}


def all_fields() -> dict[str, FieldInfo]:
    """Every setting of every process, by name."""
    return {name: field for kind in CLASSES for name, field in own_fields(kind).items()}


logger = logging.getLogger(__name__)

PREFIX: Final = "SLUICE_"

#: The API key of clients.
_API_KEY: Final = "SLUICE_API_KEY"

#: Variables that are no settings: the API key of clients, what commands pass to each other, and those of the tests.
OTHER_VARIABLES: Final = frozenset({_API_KEY, "SLUICE_PROGRAM", "SLUICE_TEST_SERVER", "SLUICE_FUZZ_CASES"})

#: Kubernetes sets variables with this ending, and others with the same beginning, for each service of a namespace.
_SERVICE: Final = "SERVICE_HOST"


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that no setting has, each with what to do. As in pydantic, case does not matter."""
    known = {PREFIX + name.upper() for name in all_fields()} | {_API_KEY}
    services = tuple(name.removesuffix(_SERVICE) for name in environment if name.endswith("_" + _SERVICE))
    return {
        name: _nearest(name.upper(), known)
        for name in sorted(environment)
        if name.upper().startswith(PREFIX)
        and name.upper() not in known | OTHER_VARIABLES
        and not name.startswith(services)
    }


def _nearest(name: str, known: set[str]) -> str:
    names = [one.removeprefix(PREFIX) for one in sorted(known)]  # Their common beginning would make all look alike.
    found = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
    return f"did you mean {PREFIX}{found[0]}?" if found else "unset it"


def warn_of_unknown_variables(environment: Mapping[str, str]) -> None:
    """Log a warning for each of them, when a process starts."""
    for name, advice in unknown_variables(environment).items():
        logger.warning("%s is no setting and has no effect: %s", name, advice)
