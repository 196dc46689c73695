"""Execution providers: opening a session on the one that was asked for, never silently on another.

Knows no Redis and nothing of what the model means.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from consumers.gpu import devices as gpus
from stream.host.cpu import usable_cores
from stream.settings import Provider

logger = logging.getLogger(__name__)

_NAMES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: Best first.
_AUTO = ("tensorrt", "cuda", "cpu")


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model shall run. `threads` counts for the CPU (0: the usable cores), the rest for GPUs; `device` is the
    number of one, as CUDA counts.

    TensorRT keeps its engines in `cache_dir`; building them takes minutes.
    """

    provider: Provider = "auto"
    threads: int = 0
    max_batch: int = 32
    cuda_graphs: bool = False
    cache_dir: Path = Path(".sluice")
    device: int = 0


class ProviderError(Exception):
    """The provider that was asked for does not work here; the message says which and why."""


def open_session(path: Path, execution: Execution) -> ort.InferenceSession:
    """A session on the wanted provider; `auto` tries TensorRT, CUDA and the CPU in this order.

    Raises ProviderError where ONNX Runtime reports another provider than the one asked for: it falls back to
    the CPU without an error of its own.
    """
    wanted = execution.provider
    candidates = [wanted] if wanted != "auto" else [name for name in _AUTO if name == "cpu" or gpu_present()]
    failures = []
    for name in candidates:
        try:
            return _open(path, name, execution)
        except ProviderError as error:
            logger.info("provider %s does not work here: %s", name, error)
            failures.append(f"{name}: {error}")
    raise ProviderError("; ".join(failures))


def _open(path: Path, name: str, execution: Execution) -> ort.InferenceSession:
    if name != "cpu":
        _require_gpu()
    options = session_options(execution.threads)
    # On the CPU a block for each size of a batch, planned ahead, saves no time, and ResNet50 takes 50 MB more.
    options.enable_mem_pattern = name != "cpu"
    try:
        session = ort.InferenceSession(str(path), options, providers=_with_options(path, name, execution))
    except Exception as error:  # ONNX Runtime raises a class of its own for each status, without a common base
        raise ProviderError(f"cannot load {path}: {error}") from error
    reported = session.get_providers()[0]
    if reported != _NAMES[name]:
        raise ProviderError(f"asked for {_NAMES[name]}, ONNX Runtime took {reported}")
    return session


def session_options(threads: int) -> ort.SessionOptions:
    """Threads from the settings or the usable cores; none of them spins, since other processes share the cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _with_options(path: Path, name: str, execution: Execution) -> list[tuple[str, dict[str, Any]]]:
    cuda = (_NAMES["cuda"], cuda_options(graphs=execution.cuda_graphs and name == "cuda", device=execution.device))
    cpu: tuple[str, dict[str, Any]] = (_NAMES["cpu"], {})
    match name:
        case "tensorrt":
            return [(_NAMES["tensorrt"], tensorrt_options(path, execution)), cuda, cpu]
        case "cuda":
            return [cuda, cpu]
        case _:
            return [cpu]


def cuda_options(*, graphs: bool, device: int = 0) -> dict[str, Any]:
    """HEURISTIC: the default re-tunes at each new shape. The arena grows by what is asked, not by doubling."""
    return {
        "device_id": str(device),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "prefer_nhwc": "1",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def tensorrt_options(path: Path, execution: Execution) -> dict[str, Any]:
    """fp16, with the range of batch sizes stated at every start (else engines are rebuilt), engines cached.

    The cache's folder is named by everything an engine depends on and TensorRT does not check.
    """
    meta = ort.InferenceSession(str(path), session_options(1), providers=[_NAMES["cpu"]])
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
    """Whether the NVIDIA driver is there and sees a device."""
    return bool(gpus.visible())


def _require_gpu() -> None:
    if not gpu_present():
        raise ProviderError("no NVIDIA GPU: the driver (libcuda) is absent or reports no device")
    ort.preload_dlls()
