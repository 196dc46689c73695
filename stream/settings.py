"""All settings of Sluice, with defaults and units: one frozen class for each process.

The setting `x_y` is the environment variable `SLUICE_X_Y` and the option `--x-y`. The option wins.

    RedisSettings              all processes; `python -m stream`, the embedded server, has no others
    └── QueueSettings          commands about a model, such as `python -m results`
        ├── IngestSettings     `python -m ingest`
        ├── WebhookSettings    `python -m ingest.webhooks`
        └── ConsumerSettings   `python -m consumers`

Uploads and their decoding have stream/upload_settings.py, and requests to other servers stream/outbound_settings.py.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.host.logs import LogFormat
from stream.host.private_folder import check_private, socket_path
from stream.keys import MAX_PARTITIONS, valid_model_name
from stream.outbound_settings import DeliverySettings, FetchSettings, OutboundSettings, Seconds, listed
from stream.redis_url import RedisUrl
from stream.upload_settings import UploadSettings

Provider = Literal["auto", "tensorrt", "cuda", "cpu"]

#: What an accepted image survives: neither of the following for certain, the end of Redis's process, a power failure.
Durability = Literal["memory", "process", "disk"]

#: scheme://host or scheme://host:port in lower case, as browsers send it (RFC 6454, "Serializing Origins").
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class RedisSettings(BaseSettings):
    """How a process reaches Redis, and how it logs. A process never changes its settings: restart it for others."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="forbid", cli_kebab_case=True)

    redis_url: str = Field(
        "",
        description="Redis 7.0+ or Valkey 8+, as redis://, rediss:// or unix://. A Cluster: "
        "redis+cluster://HOST:PORT,... Sentinels: redis+sentinel://HOST:PORT,.../SERVICE. "
        "Empty: the embedded server of `python -m stream` in data_dir",
    )
    redis_password_file: str = Field("", description="file with the password for redis_url. Empty: the URL has it")
    redis_sentinel_password_file: str = Field(
        "", description="file with the password of the Sentinels. Empty: the URL has it, if they need one"
    )
    redis_ca_file: str = Field(
        "", description="file with the CA certificates (PEM) that rediss:// trusts. Empty: those of the system"
    )
    data_dir: Path = Field(Path(".sluice"), description="folder of the embedded server's data and socket")
    durability: Durability = Field(
        "process",
        description="what an accepted image survives: the end of Redis's process, a power failure too (disk), or "
        "neither for certain (memory)",
    )
    redis_timeout_s: Seconds = Field(1.5, description="longest wait for a reply before Redis counts as unavailable")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: LogFormat = Field("human", description="format of log lines: text for people, or JSON")

    @model_validator(mode="after")
    def _socket_is_ours(self) -> Self:
        if not self.redis_url:
            check_private(socket_path(self.data_dir).parent)
        return self

    @field_validator("redis_url")
    @classmethod
    def _url_is_readable(cls, url: str) -> str:
        if url:
            RedisUrl.parse(url)
        return url

    @field_validator("redis_password_file", "redis_sentinel_password_file", "redis_ca_file")
    @classmethod
    def _file_is_readable(cls, name: str) -> str:
        if not name:
            return name
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        try:
            Path(name).open("rb").close()
        except OSError as error:
            raise ValueError(f"cannot read {name}: {error.strerror}") from error
        return name


class QueueSettings(RedisSettings):
    """What ingest, consumers and the commands about a model must agree on."""

    model: str = Field(
        "",
        description="name of the model. Empty: ingest uses the only one that is served, a consumer the only one in "
        "models_dir",
    )
    partitions: int = Field(
        1, ge=1, le=MAX_PARTITIONS, description="streams that share the images of a model; consumers serve all of them"
    )
    request_timeout_s: Seconds = Field(30.0, description="deadline of an image, counted from its acceptance")
    result_ttl_s: Seconds = Field(600.0, description="how long a result stays available under its id")
    max_dead_letters: int = Field(100, ge=1, description="dead letters kept for each partition, the newest")
    host: str = Field("127.0.0.1", description="address that ingest listens on, and a consumer with metrics_port")
    shutdown_grace_s: Seconds = Field(20.0, description="time to finish accepted work after SIGTERM")

    @field_validator("model")
    @classmethod
    def _model_fits_a_key(cls, name: str) -> str:
        if name and not valid_model_name(name):
            raise ValueError(
                "a model name consists of letters, digits, '.', '_' and '-', and starts with a letter or digit"
            )
        return name

    @model_validator(mode="after")
    def _results_outlive_requests(self) -> Self:
        if self.result_ttl_s <= self.request_timeout_s:
            raise ValueError(
                f"result_ttl_s ({self.result_ttl_s:g}) must exceed request_timeout_s ({self.request_timeout_s:g}): "
                "otherwise a result can expire before its client gives up"
            )
        return self


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


class ConsumerSettings(QueueSettings):
    """Read images from the stream in batches, classify them, and write the results."""

    models_dir: Path = Field(Path("models"), description="model repository, models_dir/<name>/<version>/model.onnx")
    version: str = Field(
        "",
        description="version of the model to serve. Empty: the stable one of its release, else the highest that suits "
        "the provider and passes its checks",
    )
    watch: bool = Field(
        False,
        description="change to a higher version in models_dir, or to the stable one of the release, while serving, "
        "once it has passed its checks",
    )

    lease_s: Seconds = Field(10.0, description="other consumers claim an entry whose consumer is silent for this long")
    max_deliveries: int = Field(3, ge=1, description="deliveries of one entry before it becomes a dead letter")

    provider: Provider = Field("auto", description="ONNX Runtime's execution provider. auto: the best that works")
    inference_threads: int = Field(
        0, ge=0, le=1024, description="threads of one inference on the CPU. 0: the usable cores"
    )
    unload_after_s: float = Field(
        0.0, ge=0, description="an idle model frees its memory after this time, until the next image. 0: never"
    )
    cuda_graphs: bool = Field(
        True, description="replay each batch size as one CUDA graph, if all of the model runs on CUDA"
    )
    strict_fp32: bool = Field(
        False, description="compute fp32 models on CUDA without TF32: exact to 1e-4, and up to seven times slower"
    )
    device: Literal["auto"] | Annotated[int, Field(ge=0, le=1023)] = Field(
        "auto", description="number of the GPU, as CUDA counts. auto: one with a free lease"
    )
    consumers_per_gpu: int = Field(1, ge=1, le=64, description="consumers that share a GPU; others wait for a lease")
    max_batch: int = Field(32, ge=1, le=1024, description="most entries in one batch")
    max_batch_s: Seconds = Field(1.0, description="a batch that would run longer at the measured speed is made smaller")
    bulk_share: float = Field(
        0.1, gt=0, le=1, description="least part of all images that are bulk images while such wait"
    )
    inference_timeout_s: Seconds = Field(60.0, description="a consumer exits if one inference runs longer")

    prediction_labels: int = Field(
        0,
        ge=0,
        le=1000,
        description="labels that a consumer's metrics of its predictions name; other labels count as other. 0: no such "
        "metrics",
    )
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="port of a consumer's metrics and health; ingest uses its own port. 0: none"
    )

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if self.watch and self.version:
            raise ValueError(f"watch (true) changes the version, but version ({self.version}) names one")
        if self.device != "auto" and self.provider == "cpu":
            raise ValueError(f"device ({self.device}) names a GPU, but provider (cpu) uses none")
        if self.strict_fp32 and self.provider == "tensorrt":
            raise ValueError("strict_fp32 (true) needs provider cuda: TensorRT computes fp32 models in fp16")
        if self.inference_timeout_s <= self.max_batch_s:
            raise ValueError(
                f"inference_timeout_s ({self.inference_timeout_s:g}) must exceed max_batch_s ({self.max_batch_s:g}): "
                "otherwise a batch of the allowed length counts as hung"
            )
        if self.lease_s < 4 * self.redis_timeout_s / 3:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least 4/3 of redis_timeout_s ({self.redis_timeout_s:g}): "
                "otherwise one slow renewal loses the lease"
            )
        return self
