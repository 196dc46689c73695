"""Settings of all processes, and those that ingest, consumers and the commands about a model must agree on."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.host.logs import LogFormat
from stream.host.private_folder import check_private, socket_path
from stream.keys import MAX_PARTITIONS, valid_model_name
from stream.redis_url import RedisUrl
from stream.settings.outbound import Seconds

#: What an accepted image survives: neither of the following for certain, the end of Redis's process, a power failure.
Durability = Literal["memory", "process", "disk"]


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
