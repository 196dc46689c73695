"""Settings of consumers."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stream.settings.common import QueueSettings
from stream.settings.outbound import Seconds

Provider = Literal["auto", "tensorrt", "cuda", "cpu"]


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
