"""TensorRT: its libraries, its options, and the folder where it keeps engines, which take minutes to build."""

import ctypes
import hashlib
import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnxruntime as ort

from consumers.gpu import devices as gpus
from consumers.onnx.model_file import digest
from consumers.onnx.providers import (
    CPU,
    TENSORRT_LIBRARIES,
    Execution,
    ProviderError,
    require_libraries,
    session_options,
)


def require_tensorrt() -> None:
    """Load TensorRT's libraries; raises ProviderError if one is missing."""
    # The package loads its libraries when it is imported. Without it they may be installed in the system.
    with suppress(ImportError):
        importlib.import_module("tensorrt_libs")
    require_libraries(TENSORRT_LIBRARIES, extra="gpu,tensorrt")


def tensorrt_version() -> str:
    """The version of the loaded library, such as 101302 for 10.13.2; raises OSError if it cannot be loaded."""
    return str(ctypes.CDLL(TENSORRT_LIBRARIES[0]).getInferLibVersion())


def tensorrt_options(path: Path, execution: Execution) -> dict[str, Any]:
    """fp16, with cached engines and the range of batch sizes, without which TensorRT rebuilds engines at each start."""
    meta = ort.InferenceSession(str(path), session_options(1), providers=[CPU.ort_name], enable_fallback=0)
    (model_input,) = meta.get_inputs()
    height, width, channels = model_input.shape[1:4]

    def shape(batch: int) -> str:
        return f"{model_input.name}:{batch}x{height}x{width}x{channels}"

    stated: dict[str, Any] = {
        "trt_fp16_enable": True,
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(execution.max_batch),
        "trt_profile_max_shapes": shape(execution.max_batch),
        "trt_timing_cache_enable": True,
        "trt_engine_cache_enable": True,
    }
    folder = str(_engine_folder(path, execution, stated))
    caches = {"trt_engine_cache_path": folder, "trt_timing_cache_path": folder}
    return {"device_id": str(execution.device), **stated, **caches}


def _engine_folder(path: Path, execution: Execution, stated: dict[str, Any]) -> Path:
    """A folder of its own for all that an engine depends on, the same for each process, container and pod.

    TensorRT makes the folder, but not its parents; and where the root file system is read-only, no folder at all.
    Raises ProviderError.
    """
    key = (digest(path), tensorrt_version(), ort.__version__, sorted(stated.items()), gpus.name(execution.device))
    folder = execution.cache_dir / "tensorrt" / hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ProviderError(
            f"cannot keep TensorRT engines in {folder}: {error.strerror}; set data_dir to a writable folder that is "
            "kept, in a container to a volume"
        ) from error
    return folder
