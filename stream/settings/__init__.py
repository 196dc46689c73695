"""All settings of Sluice, with defaults and units: one frozen class for each process.

The setting `x_y` is the environment variable `SLUICE_X_Y` and the option `--x-y`. The option wins.

    RedisSettings              all processes; `python -m stream`, the embedded server, has no others
    └── QueueSettings          commands about a model, such as `python -m results`
        ├── IngestSettings     `python -m ingest`
        ├── WebhookSettings    `python -m ingest.webhooks`
        └── ConsumerSettings   `python -m consumers`
"""

from stream.settings.common import Durability, QueueSettings, RedisSettings
from stream.settings.consumer import ConsumerSettings, Provider
from stream.settings.ingest import IngestSettings, WebhookSettings

__all__ = [
    "ConsumerSettings",
    "Durability",
    "IngestSettings",
    "Provider",
    "QueueSettings",
    "RedisSettings",
    "WebhookSettings",
]
