"""The execution providers: what each can do, which ones to try, and how ONNX Runtime is configured for them.

CONTRIBUTING.md says what else a new one needs.
"""

import ctypes
import importlib.util
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from consumers.gpu import devices as gpus
from stream.host.cpu import usable_cores
from stream.settings import Provider as ProviderSetting


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    `name` is the value of the setting, `ort_name` ONNX Runtime's. `on_gpu`: it needs CUDA and a GPU lease.
    `tunes_by_shape`: each new batch size costs time, so
    batches are padded to a few sizes. `graphs`: batches can be replayed as CUDA graphs. `computes_fp16`: it computes
    fp32 files in fp16. `computes_tf32`: it computes them with 10 bits of mantissa. `unsuited` are precisions that
    another version of a model serves better: GPUs compute int8 files of this kind slowly, CPUs fp16 files.
    """

    name: str
    ort_name: str
    on_gpu: bool = False
    tunes_by_shape: bool = False
    graphs: bool = False
    computes_fp16: bool = False
    computes_tf32: bool = False
    unsuited: frozenset[str] = frozenset()


# Its own lines on stderr would repeat, outside of our log's format, what its exceptions say.
ort.set_default_logger_severity(4)

_GPU_UNSUITED = frozenset({"int8"})

TENSORRT = Provider(
    "tensorrt",
    "TensorrtExecutionProvider",
    on_gpu=True,
    tunes_by_shape=True,
    computes_fp16=True,
    unsuited=_GPU_UNSUITED,
)
CUDA = Provider(
    "cuda",
    "CUDAExecutionProvider",
    on_gpu=True,
    tunes_by_shape=True,
    graphs=True,
    computes_tf32=True,
    unsuited=_GPU_UNSUITED,
)
CPU = Provider("cpu", "CPUExecutionProvider", unsuited=frozenset({"fp16"}))

#: All providers, best first.
PROVIDERS = (TENSORRT, CUDA, CPU)

#: The CUDA libraries that the CUDA provider of ONNX Runtime's wheel is linked to; cuDNN is loaded with the first
#: convolution. The number is the major version, `{}` that of the wheel's CUDA.
_CUDA_LIBRARIES = ("libcudart.so.{}", "libcublas.so.{}", "libcublasLt.so.{}", "libcurand.so.10", "libcudnn.so.9")

#: The major version of TensorRT that the wheel is linked to; TensorRT 11 does not replace it.
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")

#: The wheel has device code from this compute capability on (Turing).
_OLDEST_COMPUTE_CAPABILITY = (7, 5)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model is to run.

    `threads` are those of the CPU provider (0: the usable cores). `device` is the number of a GPU, as CUDA counts.
    `cuda_graphs` and `strict_fp32` count for CUDA. TensorRT keeps its engines in `cache_dir`; building them takes
    minutes.
    """

    provider: ProviderSetting = "auto"
    threads: int = 0
    max_batch: int = 32
    cuda_graphs: bool = True
    cache_dir: Path = Path(".sluice")
    device: int = 0
    strict_fp32: bool = False


class ProviderError(Exception):
    """The wanted provider does not work here; the message says which and why."""


def candidates(execution: Execution) -> list[Provider]:
    """The providers to try, in this order. `auto` means TensorRT if it is installed, CUDA and the CPU.

    Without a GPU only the CPU is left.
    """
    if execution.provider != "auto":
        return [provider for provider in PROVIDERS if provider.name == execution.provider]
    if not gpus.visible():
        return [CPU]
    return [TENSORRT, CUDA, CPU] if tensorrt_installed() and not execution.strict_fp32 else [CUDA, CPU]


def tensorrt_installed() -> bool:
    """Whether TensorRT's libraries are installed, as a package or in the system."""
    return importlib.util.find_spec("tensorrt_libs") is not None or _can_load(TENSORRT_LIBRARIES[0])


def provider_of(session: ort.InferenceSession) -> Provider:
    """The provider that a session reports."""
    reported = session.get_providers()[0]
    return next(provider for provider in PROVIDERS if provider.ort_name == reported)


def session_options(threads: int) -> ort.SessionOptions:
    """Threads from the settings or the usable cores; they do not spin, since other processes share the cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def cuda_options(
    *, graphs: bool, device: int = 0, precision: str = "fp32", strict_fp32: bool = False
) -> dict[str, Any]:
    """Options of the CUDA provider for a model file of this precision.

    HEURISTIC: the default tunes again for each new shape. The arena grows by what is needed instead of doubling.
    Channels last (NHWC) is faster on tensor cores, and not implemented for int8. TF32 is stated, though it is the
    default: without it fp32 takes up to seven times as long, and fp16 may lose its tensor cores.
    """
    return {
        "device_id": str(device),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "prefer_nhwc": "0" if precision == "int8" else "1",
        "use_tf32": "0" if strict_fp32 and precision == "fp32" else "1",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def require_cuda(device: int) -> None:
    """Load the CUDA libraries; raises ProviderError if the driver, the GPU or a library does not suit."""
    if not gpus.visible():
        raise ProviderError(f"{gpus.why_none()}; or set provider=cpu")
    wanted = str(getattr(ort, "cuda_version", "") or "").partition(".")[0]
    if not wanted:
        raise ProviderError("this build of ONNX Runtime computes on the CPU only: install onnxruntime-gpu")
    major, minor = gpus.supported_cuda()
    if major < int(wanted):
        raise ProviderError(
            f"the NVIDIA driver supports CUDA {major}.{minor}, but onnxruntime-gpu {ort.__version__} needs CUDA "
            f"{wanted}: install driver 580 or newer, or for an older driver onnxruntime-gpu<1.27 with CUDA 12"
        )
    if (capability := gpus.compute_capability(device)) < _OLDEST_COMPUTE_CAPABILITY:
        raise ProviderError(
            f"{gpus.name(device)} has compute capability {capability[0]}.{capability[1]}; onnxruntime-gpu has code for "
            "7.5 (Turing) and newer: set provider=cpu"
        )
    # It prints what it does not find, which is reported below.
    with redirect_stdout(io.StringIO()):
        ort.preload_dlls()
    require_libraries([library.format(wanted) for library in _CUDA_LIBRARIES], extra="gpu")


def require_libraries(names: Sequence[str], *, extra: str) -> None:
    """Raises ProviderError if a shared library cannot be loaded; `extra` is the one that installs it."""
    if missing := [name for name in names if not _can_load(name)]:
        raise ProviderError(
            f"{', '.join(missing)} not found: install Sluice with its extra, pip install -e '.[{extra}]'"
        )


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
