"""The list of all settings, for documentation and tests."""

from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stream.outbound_settings import DeliverySettings, FetchSettings, OutboundSettings
from stream.settings import ConsumerSettings, IngestSettings, QueueSettings, RedisSettings
from stream.upload_settings import UploadSettings

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
