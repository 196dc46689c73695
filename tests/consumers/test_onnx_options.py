"""The options that each provider gets, and which operations may run on another one."""

import importlib.util
import logging
from collections import Counter
from pathlib import Path

import onnxruntime as ort
import pytest

from consumers.onnx import tensorrt
from consumers.onnx.assignment import RECORD, Assignment, assignment_of, check_assignment
from consumers.onnx.providers import (
    CPU,
    CUDA,
    TENSORRT,
    Execution,
    Provider,
    ProviderError,
    cuda_options,
    session_options,
)
from consumers.onnx.tensorrt import tensorrt_options
from tests.support.models import tiny_model


def test_tf32_is_stated_and_strict_fp32_is_for_fp32_files() -> None:
    """Off it may take the tensor cores from fp16, too."""
    assert cuda_options(graphs=True)["use_tf32"] == "1"
    assert cuda_options(graphs=True, strict_fp32=True)["use_tf32"] == "0"
    assert cuda_options(graphs=True, strict_fp32=True, precision="fp16")["use_tf32"] == "1"


def test_channels_last_is_not_for_int8() -> None:
    """ONNX Runtime has no such kernels; the graph would be full of transpositions."""
    assert cuda_options(graphs=True, precision="int8")["prefer_nhwc"] == "0"
    assert cuda_options(graphs=True, precision="fp16")["prefer_nhwc"] == "1"


def test_cuda_never_tunes_by_exhaustion() -> None:
    """It would tune again for each new batch size."""
    assert cuda_options(graphs=False)["cudnn_conv_algo_search"] == "HEURISTIC"
    assert cuda_options(graphs=True)["enable_cuda_graph"] == "1"


def wheel_library(provider: str) -> bytes:
    """The provider's shared library in ONNX Runtime's wheel."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / "capi" / f"libonnxruntime_providers_{provider}.so").read_bytes()


def test_the_wheel_knows_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its parser refuses unknown names, but only on a machine with a GPU."""
    monkeypatch.setattr(tensorrt, "tensorrt_version", lambda: "101302")
    cuda, trt = wheel_library("cuda"), wheel_library("tensorrt")
    options = cuda_options(graphs=True)
    unknown = [name for name in (*options, "HEURISTIC", "kSameAsRequested") if f"\0{name}\0".encode() not in cuda]
    stated = tensorrt_options(tiny_model.build(tmp_path), Execution(cache_dir=tmp_path))
    assert unknown + [name for name in stated if f"\0{name}\0".encode() not in trt] == []


def assigned(path: Path) -> Assignment:
    options = session_options(1)
    options.add_session_config_entry(*RECORD)
    return assignment_of(ort.InferenceSession(str(path), options, providers=[CPU.ort_name]))


def test_expensive_operations_on_the_cpu_are_refused(tmp_path: Path) -> None:
    """A session reports CUDA as its first provider also if all of the network runs on the CPU."""
    found = assigned(tiny_model.build(tmp_path))
    for provider in (CUDA, Provider("openvino", "OpenVINOExecutionProvider")):
        with pytest.raises(ProviderError, match=r"leaves expensive operations to the CPU: 1 \w*MatMul"):
            check_assignment(found, provider)
    with pytest.raises(ProviderError, match="TensorRT runs no operation"):
        check_assignment(found, TENSORRT)


def test_cheap_operations_elsewhere_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A few operations on the CPU cost little, but explain what graphs and measurements say."""
    found = Counter({(CUDA.ort_name, "Conv"): 53, (CPU.ort_name, "Shape"): 2, (CPU.ort_name, "Gather"): 1})
    with caplog.at_level(logging.INFO):
        check_assignment(found, CUDA)
    assert "operations that do not run on CUDAExecutionProvider: 1 Gather, 2 Shape" in caplog.text
