"""The execution providers, and how a session is opened on the wanted one: never silently on another."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from consumers.gpu import devices as gpus
from stream.host.cpu import usable_cores
from stream.settings import Provider as ProviderSetting

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    `name` is the value of the setting, `ort_name` ONNX Runtime's. `tunes_by_shape`: each new batch size costs time, so
    batches are padded to a few sizes. `graphs`: batches can be replayed as CUDA graphs. `computes_fp16`: it computes
    fp32 files in fp16.
    """

    name: str
    ort_name: str
    tunes_by_shape: bool = False
    graphs: bool = False
    computes_fp16: bool = False


TENSORRT = Provider("tensorrt", "TensorrtExecutionProvider", tunes_by_shape=True, computes_fp16=True)
CUDA = Provider("cuda", "CUDAExecutionProvider", tunes_by_shape=True, graphs=True)
CPU = Provider("cpu", "CPUExecutionProvider")

#: All providers, best first.
PROVIDERS = (TENSORRT, CUDA, CPU)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model is to run.

    `threads` are those of the CPU provider (0: the usable cores). `device` is the number of a GPU, as CUDA counts.
    TensorRT keeps its engines in `cache_dir`; building them takes minutes.
    """

    provider: ProviderSetting = "auto"
    threads: int = 0
    max_batch: int = 32
    cuda_graphs: bool = False
    cache_dir: Path = Path(".sluice")
    device: int = 0


class ProviderError(Exception):
    """The wanted provider does not work here; the message says which and why."""


def open_session(path: Path, execution: Execution) -> ort.InferenceSession:
    """A session on the wanted provider; `auto` tries TensorRT, CUDA and the CPU in this order.

    Raises ProviderError where ONNX Runtime reports another provider than the one asked for: it falls back to
    the CPU without an error of its own.
    """
    failures = []
    for provider in _candidates(execution.provider):
        try:
            return _open(path, provider, execution)
        except ProviderError as error:
            logger.info("provider %s does not work here: %s", provider.name, error)
            failures.append(f"{provider.name}: {error}")
    raise ProviderError("; ".join(failures))


def _candidates(wanted: ProviderSetting) -> list[Provider]:
    if wanted == "auto":
        return [provider for provider in PROVIDERS if provider is CPU or gpu_present()]
    return [provider for provider in PROVIDERS if provider.name == wanted]


def provider_of(session: ort.InferenceSession) -> Provider:
    """The provider that a session reports."""
    reported = session.get_providers()[0]
    return next(provider for provider in PROVIDERS if provider.ort_name == reported)


def _open(path: Path, provider: Provider, execution: Execution) -> ort.InferenceSession:
    if provider is not CPU:
        _require_gpu()
    options = session_options(execution.threads)
    # On the CPU, memory planned ahead for each batch size saves no time, and ResNet50 takes 50 MB more.
    options.enable_mem_pattern = provider is not CPU
    try:
        session = ort.InferenceSession(str(path), options, providers=_with_options(path, provider, execution))
    except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
        raise ProviderError(f"cannot load {path}: {error}") from error
    if (reported := provider_of(session)) is not provider:
        raise ProviderError(f"asked for {provider.ort_name}, ONNX Runtime took {reported.ort_name}")
    return session


def session_options(threads: int) -> ort.SessionOptions:
    """Threads from the settings or the usable cores; they do not spin, since other processes share the cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _with_options(path: Path, provider: Provider, execution: Execution) -> list[tuple[str, dict[str, Any]]]:
    """The provider with its options, and those that run what it cannot run."""
    graphs = execution.cuda_graphs and provider.graphs
    cuda = (CUDA.ort_name, cuda_options(graphs=graphs, device=execution.device))
    cpu: tuple[str, dict[str, Any]] = (CPU.ort_name, {})
    if provider is TENSORRT:
        return [(TENSORRT.ort_name, tensorrt_options(path, execution)), cuda, cpu]
    return [cuda, cpu] if provider is CUDA else [cpu]


def cuda_options(*, graphs: bool, device: int = 0) -> dict[str, Any]:
    """HEURISTIC: the default tunes again for each new shape. The arena grows by what is needed instead of doubling."""
    return {
        "device_id": str(device),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "prefer_nhwc": "1",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def tensorrt_options(path: Path, execution: Execution) -> dict[str, Any]:
    """fp16, with cached engines and the range of batch sizes, without which TensorRT rebuilds engines at each start.

    The name of the cache's folder is a hash of all that an engine depends on and TensorRT does not check.
    """
    meta = ort.InferenceSession(str(path), session_options(1), providers=[CPU.ort_name])
    (model_input,) = meta.get_inputs()
    height, width = model_input.shape[1:3]

    def shape(batch: int) -> str:
        return f"{model_input.name}:{batch}x{height}x{width}x3"

    stated: dict[str, Any] = {
        "trt_fp16_enable": True,
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(execution.max_batch),
        "trt_profile_max_shapes": shape(execution.max_batch),
        "trt_timing_cache_enable": True,
        "trt_engine_cache_enable": True,
    }
    key = repr(
        (
            path.resolve(),
            path.stat().st_size,
            path.stat().st_mtime_ns,
            ort.__version__,
            sorted(stated.items()),
            gpus.name(execution.device),
        )
    )
    folder = execution.cache_dir / "tensorrt" / hashlib.sha256(key.encode()).hexdigest()[:16]
    caches = {"trt_engine_cache_path": str(folder), "trt_timing_cache_path": str(folder)}
    return {"device_id": str(execution.device), **stated, **caches}


def gpu_present() -> bool:
    """Whether the NVIDIA driver is installed and sees a device."""
    return bool(gpus.visible())


def _require_gpu() -> None:
    if not gpu_present():
        raise ProviderError("no NVIDIA GPU: the driver (libcuda) is absent or reports no device")
    ort.preload_dlls()
