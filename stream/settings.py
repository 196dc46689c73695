"""All settings of Sluice with their defaults and units. Read once per process, by its `__main__.py`.

A setting `x_y` is the environment variable `SLUICE_X_Y` and the option `--x-y`; the option wins.
"""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from stream.host.cpu import usable_cores
from stream.host.logs import LogFormat, configure, refuse
from stream.keys import valid_model_name
from stream.redis_url import Place
from stream.request_id import MOST

Provider = Literal["auto", "tensorrt", "cuda", "cpu"]

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Every knob. Frozen: a process that wants other values is started anew."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="forbid", cli_kebab_case=True)

    redis_url: str = Field(
        "",
        description="Redis 7.0+ or Valkey 8+, as redis://, rediss:// or unix://; a Cluster as "
        "redis+cluster://HOST:PORT,..., Sentinels as redis+sentinel://HOST:PORT,.../SERVICE. "
        "Empty: the embedded server of `python -m stream` in data_dir",
    )
    redis_password_file: str = Field("", description="file with the password for redis_url. Empty: the URL has it")
    redis_sentinel_password_file: str = Field(
        "", description="file with the password of the Sentinels themselves. Empty: the URL has it, if they ask for one"
    )
    redis_ca_file: str = Field(
        "", description="file with the CA certificates (PEM) that rediss:// trusts. Empty: the system's"
    )
    data_dir: Path = Field(Path(".sluice"), description="folder of the embedded server's data and socket")
    appendfsync: Literal["always", "everysec", "no"] = Field(
        "everysec", description="when the embedded server flushes its append-only file to the disk"
    )
    redis_timeout_s: Seconds = Field(1.5, description="longest wait for one answer of Redis before it counts as away")

    model: str = Field(
        "",
        description="model to serve. Empty: ingest takes the only one served, a consumer the only one in models_dir",
    )
    models_dir: Path = Field(Path("models"), description="model repository, models_dir/<name>/<version>/model.onnx")
    version: str = Field("", description="version of the model that a consumer serves. Empty: the highest")

    host: str = Field("127.0.0.1", description="address that ingest listens on, and a consumer for metrics_port")
    public_address: str = Field(
        "", description="address through which others reach ingest where it is not host: a container's, the host's"
    )
    port: int = Field(5000, ge=0, le=65_535, description="port that ingest listens on")
    workers: int = Field(
        0, ge=0, le=256, description="ingest processes that share the port. 0: one for each usable core"
    )
    decode_threads: int = Field(
        0, ge=0, le=256, description="threads that decode pictures, per worker. 0: cores / workers"
    )
    max_upload_bytes: int = Field(20 * 2**20, ge=1, description="largest request body, in bytes")
    max_images: int = Field(32, ge=1, le=1024, description="most images in one request")
    max_pixels: int = Field(50_000_000, ge=1, description="largest picture, width times height")
    upload_timeout_s: Seconds = Field(30.0, description="longest time for a request's body to arrive")
    keep_alive_s: int = Field(
        75, ge=1, le=3600, description="how long a client's connection may lie idle before ingest closes it"
    )
    request_timeout_s: Seconds = Field(30.0, description="deadline of an image, from its acceptance")
    result_ttl_s: Seconds = Field(600.0, description="how long a result is kept under its id")
    cache_ttl_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="the same pixels get the same model's answer from Redis for so long. 0: never",
    )

    api_keys_file: str = Field(
        "", description="file of hashed API keys, see `python -m ingest.keys`. Empty, as api_keys: nobody needs one"
    )
    api_keys: SecretStr = Field(SecretStr(""), description="further API keys, as name:key,name:key")
    insecure_no_keys: bool = Field(
        False, description="listen for everybody without API keys on an address that is not loopback"
    )
    rate_limit_per_s: float = Field(
        0.0, ge=0, le=1e6, description="requests a second for each API key, without keys for each address. 0: no limit"
    )
    rate_limit_burst: int = Field(20, ge=1, le=1_000_000, description="requests that a limited client may send at once")
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="addresses and networks of proxies whose X-Forwarded-For is believed, comma-separated, * for all",
    )
    cors_origins: str = Field(
        "", description="origins whose pages may use the service, comma-separated, * for all. Empty: none"
    )

    max_backlog: int = Field(
        1000, ge=1, description="most entries in the stream, and most pictures undecoded in a worker; beyond it 503"
    )
    max_wait_s: Seconds = Field(
        10.0,
        description="ingest answers 503 where the consumers, or its threads that decode, need longer for what waits",
    )
    partitions: int = Field(
        1,
        ge=1,
        le=MOST,
        description="streams that a model's images are spread over; consumers serve all there are",
    )
    wait_replicas: int = Field(
        0,
        ge=0,
        le=5,
        description="replicas that must have an image before it counts as accepted, else ingest answers 503. 0: none",
    )
    accept_without_consumers: bool = Field(
        False, description="accept images while no consumer is alive, for a model that one has announced before"
    )
    lease_s: Seconds = Field(10.0, description="an entry whose consumer is silent for so long goes to another")
    max_deliveries: int = Field(3, ge=1, description="deliveries of one entry before it becomes a dead letter")
    max_dead_letters: int = Field(100, ge=1, description="dead letters kept, the newest")

    provider: Provider = Field("auto", description="ONNX Runtime's execution provider. auto: the best that works")
    inference_threads: int = Field(
        0, ge=0, le=1024, description="threads of one inference on the CPU. 0: the usable cores"
    )
    unload_after_s: float = Field(
        0.0, ge=0, description="an idle model gives its memory back after so long, until the next image. 0: never"
    )
    cuda_graphs: bool = Field(False, description="replay each batch size as one CUDA graph (provider cuda only)")
    device: Literal["auto"] | Annotated[int, Field(ge=0, le=1023)] = Field(
        "auto", description="number of the GPU to run on, as CUDA counts. auto: one with a free place"
    )
    consumers_per_gpu: int = Field(
        1, ge=1, le=64, description="how many consumers share a GPU; further ones wait until one leaves"
    )
    max_batch: int = Field(32, ge=1, le=1024, description="most entries in one batch")
    max_batch_s: Seconds = Field(
        1.0, description="a batch that would run longer, at the measured speed, is made smaller"
    )
    inference_timeout_s: Seconds = Field(60.0, description="an inference that runs longer hangs: the consumer exits")
    shutdown_grace_s: Seconds = Field(20.0, description="after SIGTERM, time to finish what is held")

    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="port where a consumer shows its metrics and its health; ingest has them on its own. 0: none",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: LogFormat = Field("human", description="how a line is logged: for people, or as JSON")

    @property
    def worker_count(self) -> int:
        """How many ingest processes share the port."""
        return self.workers or usable_cores()

    @property
    def asks_for_keys(self) -> bool:
        """Whether the settings name any API keys."""
        return bool(self.api_keys_file or self.api_keys.get_secret_value())

    @field_validator("model")
    @classmethod
    def _model_can_be_a_key(cls, name: str) -> str:
        if name and not valid_model_name(name):
            raise ValueError("a model's name has letters, digits, '.', '_', '-' and starts with a letter or digit")
        return name

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, proxies: str) -> str:
        for one in proxies.split(",") if proxies not in {"", "*"} else ():
            ipaddress.ip_network(one.strip())
        return proxies

    @field_validator("redis_url")
    @classmethod
    def _url_can_be_read(cls, url: str) -> str:
        Place.parse(url)
        return url

    @field_validator("redis_password_file", "redis_sentinel_password_file", "redis_ca_file")
    @classmethod
    def _file_is_there(cls, name: str) -> str:
        if name and not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        return name

    @model_validator(mode="after")
    def _knobs_fit_each_other(self) -> Self:
        if self.result_ttl_s <= self.request_timeout_s:
            raise ValueError(
                f"result_ttl_s ({self.result_ttl_s:g}) must exceed request_timeout_s ({self.request_timeout_s:g}): "
                "else a result can expire before its client gives up"
            )
        if self.max_wait_s >= self.request_timeout_s:
            raise ValueError(
                f"max_wait_s ({self.max_wait_s:g}) must be below request_timeout_s ({self.request_timeout_s:g}): "
                "else images are accepted that will expire before their turn"
            )
        if self.device != "auto" and self.provider == "cpu":
            raise ValueError(f"device ({self.device}) names a GPU, but provider (cpu) uses none")
        if self.inference_timeout_s <= self.max_batch_s:
            raise ValueError(
                f"inference_timeout_s ({self.inference_timeout_s:g}) must exceed max_batch_s ({self.max_batch_s:g}): "
                "else a batch of the allowed length counts as hanging"
            )
        if self.lease_s < 4 * self.redis_timeout_s / 3:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least 4/3 of redis_timeout_s ({self.redis_timeout_s:g}): "
                "else one slow renewal loses the lease"
            )
        return self


def from_command_line(program: str, arguments: Sequence[str]) -> Settings:
    """The settings of one process, from its options and the environment.

    Exits with status 2 and one line for each wrong value, in JSON where logs are; with 0 after `--help`.
    """
    source: CliSettingsSource[object] = CliSettingsSource(
        Settings,
        cli_parse_args=list(arguments),
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )
    try:
        return Settings(_cli_settings_source=source)
    except ValidationError as error:
        log_format = _log_format(arguments)
        configure("info", log_format)
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            refuse(program, f"{name + ': ' if name else ''}{problem['msg']}", log_format)
        raise SystemExit(2) from error


class _Form(BaseSettings):
    """The one setting that must be known where others are wrong."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", cli_kebab_case=True)

    log_format: str = "human"


def _log_format(arguments: Sequence[str]) -> LogFormat:
    source: CliSettingsSource[object] = CliSettingsSource(
        _Form, cli_parse_args=list(arguments), cli_kebab_case=True, cli_ignore_unknown_args=True
    )
    return "json" if _Form(_cli_settings_source=source).log_format == "json" else "human"
