"""Settings of ingest and of the sender of webhooks. Uploads and requests to other servers have files of their own."""

import ipaddress
import re
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from stream.settings.common import QueueSettings
from stream.settings.outbound import DeliverySettings, FetchSettings, OutboundSettings, Seconds, listed
from stream.settings.uploads import UploadSettings

#: scheme://host or scheme://host:port in lower case, as browsers send it (RFC 6454, "Serializing Origins").
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class IngestSettings(QueueSettings, UploadSettings, OutboundSettings, FetchSettings):
    """Serve HTTP and gRPC, and add images to the stream."""

    public_address: str = Field(
        "",
        description="address at which clients reach ingest if it is not host: of a container's host, or of a proxy",
    )
    port: int = Field(5000, ge=0, le=65_535, description="port that ingest listens on")
    grpc_port: int = Field(
        0, ge=0, le=65_535, description="port for gRPC (the Open Inference Protocol) on the same address. 0: none"
    )
    max_dead_letter_age_s: float = Field(
        0.0, ge=0, description="age at which ingest drops a dead letter with its pixels, and a dead webhook. 0: never"
    )
    keep_alive_s: int = Field(75, ge=1, le=3600, description="time after which ingest closes an idle connection")
    cache_ttl_s: float = Field(
        0.0, ge=0, le=86_400, description="how long equal pixels get the same prediction from Redis. 0: never"
    )

    api_keys_file: str = Field(
        "", description="file of hashed API keys, see `python -m ingest.keys`. Empty, like api_keys: no key is needed"
    )
    api_keys: SecretStr = Field(SecretStr(""), description="more API keys, as name:key,name:key")
    insecure_no_keys: bool = Field(
        False, description="serve everybody without API keys on an address that is not loopback"
    )
    rate_limit_per_s: float = Field(
        0.0, ge=0, le=1e6, description="requests per second for each API key, or address without keys. 0: no limit"
    )
    rate_limit_burst: int = Field(20, ge=1, le=1_000_000, description="requests that a limited client may send at once")
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="addresses and networks of proxies whose X-Forwarded-For counts, comma-separated. *: all",
    )
    cors_origins: str = Field(
        "", description="origins whose pages may call the service, comma-separated. *: all. Empty: none"
    )

    max_backlog: int = Field(
        1000,
        ge=1,
        description="most entries of a model in each class, and in a release of each version, over all partitions; and "
        "most undecoded images in a worker. Else 503",
    )
    max_wait_s: Seconds = Field(
        10.0, description="ingest responds 503 if consumers or decoders need longer than this for the backlog"
    )
    max_webhook_backlog: int = Field(
        10_000, ge=1, description="most webhooks of a partition that wait for their delivery; else 503"
    )
    wait_replicas: int = Field(
        0,
        ge=0,
        le=5,
        description="replicas that must have an image before it is accepted; otherwise ingest responds 503. 0: none",
    )
    accept_without_consumers: bool = Field(
        False, description="accept images for a known model while no consumer is alive"
    )

    @property
    def asks_for_keys(self) -> bool:
        """Whether the settings name any API keys."""
        return bool(self.api_keys_file or self.api_keys.get_secret_value())

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, proxies: str) -> str:
        for proxy in proxies.split(",") if proxies not in {"", "*"} else ():
            ipaddress.ip_network(proxy.strip())
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: str) -> str:
        for origin in listed(origins):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write https://example.com or http://localhost:3000, or *")
        return origins

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.grpc_port and self.grpc_port == self.port:
            raise ValueError(f"grpc_port ({self.grpc_port}) must differ from port: HTTP and gRPC cannot share one")
        return self

    @model_validator(mode="after")
    def _images_wait_less_than_their_deadline(self) -> Self:
        if self.max_wait_s >= self.request_timeout_s:
            raise ValueError(
                f"max_wait_s ({self.max_wait_s:g}) must be below request_timeout_s ({self.request_timeout_s:g}): "
                "otherwise ingest accepts images that expire before a consumer reads them"
            )
        return self


class WebhookSettings(QueueSettings, OutboundSettings, DeliverySettings):
    """Deliver the outcomes of images to webhooks."""
