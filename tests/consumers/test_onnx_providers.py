"""Execution providers without a GPU: which one is taken, with which options, and what is never done silently."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as bindings

from consumers.gpu import devices as gpus
from consumers.onnx import providers, tensorrt
from consumers.onnx import session as sessions
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import (
    CPU,
    CUDA,
    TENSORRT,
    Execution,
    Provider,
    ProviderError,
    candidates,
    require_cuda,
    require_libraries,
)
from consumers.onnx.session import Session, open_session
from consumers.onnx.tensorrt import tensorrt_options
from tests.support.models import tiny_model
from tests.support.models.lite0 import Exported
from tests.support.models.reduced_mantissa import with_tf32_operands
from tests.support.redis.requests_direct import random_images

ONE_GPU = ["11111111-2222-3333-4444-555555555555"]


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that shows one new GPU."""
    monkeypatch.setattr(gpus, "visible", lambda: ONE_GPU)
    monkeypatch.setattr(gpus, "supported_cuda", lambda: (13, 0))
    monkeypatch.setattr(gpus, "compute_capability", lambda _: (9, 0))
    monkeypatch.setattr(gpus, "name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(providers, "tensorrt_installed", lambda: True)


def test_a_provider_of_another_device_is_asked_for(tmp_path: Path) -> None:
    """And neither CUDA nor, in its place, the CPU; neither wheel of ONNX Runtime has this one."""
    other = Provider("openvino", "OpenVINOExecutionProvider")
    with pytest.raises(ProviderError, match="'OpenVINOExecutionProvider' is not in available provider names"):
        open_session(tiny_model.build(tmp_path), other, Execution())


def test_auto_tries_the_best_provider_first(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorRT if it is not installed or fp32 must be exact, and a named provider alone."""
    assert candidates(Execution()) == [TENSORRT, CUDA, CPU]
    assert candidates(Execution(strict_fp32=True)) == [CUDA, CPU]
    assert candidates(Execution("cuda")) == [CUDA]
    monkeypatch.setattr(providers, "tensorrt_installed", lambda: False)
    assert candidates(Execution()) == [CUDA, CPU]
    assert candidates(Execution("tensorrt")) == [TENSORRT]


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is tried, so nothing is reported."""
    monkeypatch.setattr(gpus, "visible", list)
    assert candidates(Execution()) == [CPU]


class FailingSession:
    """ONNX Runtime's inner session, whose provider fails in every run."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run(self, *_: object) -> None:
        raise bindings.EPFail("CUDA failure 700: an illegal memory access was encountered")


def test_a_failing_run_never_moves_to_the_cpu(tmp_path: Path) -> None:
    """ONNX Runtime would make the session again on the CPU and answer, while the consumer still reports CUDA."""
    session = Session(tiny_model.build(tmp_path), CPU, Execution(threads=1))
    inner = session._session
    inner._sess = failing = FailingSession(inner._sess)
    with pytest.raises(bindings.EPFail, match="illegal memory access"):
        session.run(random_images(1), 1)
    assert inner._sess is failing


def fake_cuda(monkeypatch: pytest.MonkeyPatch, session: Any) -> list[bool]:
    """Let the provider CUDA open this session, but without graphs; returns the list of what was asked."""
    asked = []

    def opened(path: Path, provider: Provider, execution: Execution, *, graphs: bool = False) -> Any:
        if provider is CPU:
            return open_session(path, CPU, execution)
        if provider is TENSORRT:
            raise ProviderError("libnvinfer.so.10 not found")
        asked.append(graphs)
        if graphs:
            raise ProviderError("not all operations are on the GPU")
        return session(path)

    monkeypatch.setattr(sessions, "open_session", opened)
    return asked


def cpu_session(path: Path) -> ort.InferenceSession:
    return open_session(path, CPU, Execution(threads=1))


def broken_session(path: Path) -> ort.InferenceSession:
    """Loads well, and fails in its first run, as without cuDNN."""
    session = cpu_session(path)
    session._sess = FailingSession(session._sess)
    return session


def test_auto_goes_on_when_the_first_run_fails(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says why at a level that is seen: the CPU is never taken silently on a machine with a GPU."""
    fake_cuda(monkeypatch, broken_session)
    with caplog.at_level(logging.WARNING):
        assert Model(tiny_model.build(tmp_path), Execution(threads=1, max_batch=2)).provider is CPU
    assert "provider tensorrt does not work here, trying the next: libnvinfer.so.10 not found" in caplog.text
    assert "provider cuda does not work here, trying the next: the first run failed: CUDA failure 700" in caplog.text


def test_a_named_provider_whose_first_run_fails_is_an_error(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that a command can report in one line."""
    fake_cuda(monkeypatch, broken_session)
    with pytest.raises(ProviderError, match="cuda: the first run failed: CUDA failure 700"):
        Model(tiny_model.build(tmp_path), Execution("cuda", max_batch=2))


def test_auto_goes_on_when_a_provider_computes_something_else(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The golden input shows it; a provider that was named is refused."""
    path = tiny_model.build(tmp_path)
    fake_cuda(monkeypatch, lambda _: cpu_session(tiny_model.damaged(path)))
    with caplog.at_level(logging.WARNING):
        assert Model(path, Execution(max_batch=2)).provider is CPU
    assert "provider cuda does not work here, trying the next: tiny/1 on CUDAExecutionProvider differs" in caplog.text
    with pytest.raises(GoldenMismatch, match="the file is damaged, or this provider computes it wrong"):
        Model(path, Execution("cuda", max_batch=2))


class WrongInLargeBatches:
    """A session whose kernels for more than four images compute something else."""

    def __init__(self, path: Path) -> None:
        self._right, self._wrong = cpu_session(path), cpu_session(tiny_model.damaged(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._right, name)

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        return (self._right if len(feed["images"]) <= 4 else self._wrong).run(outputs, feed)


def test_the_golden_input_is_checked_in_every_batch_size(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A GPU has kernels of its own for each, and a graph of its own."""
    fake_cuda(monkeypatch, WrongInLargeBatches)
    path = tiny_model.build(tmp_path)
    assert Model(path, Execution("cuda", max_batch=4)).provider is CUDA
    with pytest.raises(GoldenMismatch):
        Model(path, Execution("cuda", max_batch=8))


def test_a_capture_that_fails_leaves_a_session_without_graphs(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Graphs make a model faster; that they cannot be captured must not keep it from the GPU."""
    asked = []

    def opened(path: Path, provider: Provider, execution: Execution, *, graphs: bool = False) -> Any:
        asked.append(graphs)
        return cpu_session(path)

    monkeypatch.setattr(sessions, "open_session", opened)
    buffer = random_images(2)
    with caplog.at_level(logging.INFO):
        model = Model(tiny_model.build(tmp_path), Execution("cuda", max_batch=2))
    assert asked == [True, False]
    assert "CUDA graphs are off for this network" in caplog.text
    truth = tiny_model.expected(buffer, tiny_model.weights())
    np.testing.assert_allclose(model.run(buffer, 2), truth, atol=1e-5)


def test_cuda_graphs_are_tried_first(one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network that is not wholly on the GPU runs without them; off, they are not tried."""
    asked = fake_cuda(monkeypatch, cpu_session)
    path = tiny_model.build(tmp_path)
    buffer = random_images(2)
    truth = tiny_model.expected(buffer, tiny_model.weights())
    model = Model(path, Execution("cuda", max_batch=2))
    assert (model.provider, asked) == (CUDA, [True, False])
    np.testing.assert_allclose(model.run(buffer, 2), truth, atol=1e-5)
    asked.clear()
    Model(path, Execution("cuda", max_batch=2, cuda_graphs=False))
    assert asked == [False]


def test_fp32_on_cuda_passes_the_golden_check_in_tf32(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exported_lite0: Exported
) -> None:
    """By default CUDA rounds the operands of Conv and MatMul to 10 bits of mantissa, here simulated on a real network.

    Strict fp32 switches that off, so it must notice when a provider rounds all the same.
    """
    (path,) = exported_lite0.models_dir.glob("*/*/model.onnx")
    rounded = with_tf32_operands(path, tmp_path / "rounded.onnx")
    fake_cuda(monkeypatch, lambda _: cpu_session(rounded))
    assert Model(path, Execution("cuda", max_batch=1)).provider is CUDA
    with pytest.raises(GoldenMismatch, match=r"more than 0\.0001"):
        Model(path, Execution("cuda", max_batch=1, strict_fp32=True))


def test_engines_are_kept_by_what_they_depend_on(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file's content, TensorRT's version, the GPU and the options. Path and age differ in each pod."""
    monkeypatch.setattr(tensorrt, "tensorrt_version", lambda: "101302")

    def folder(path: Path, max_batch: int = 32) -> str:
        execution = Execution(max_batch=max_batch, cache_dir=tmp_path / "not" / "yet")
        options = tensorrt_options(path, execution)
        assert options["trt_profile_min_shapes"] == "images:1x16x16x3"
        assert options["trt_profile_max_shapes"] == f"images:{max_batch}x16x16x3"
        assert options["trt_fp16_enable"] is True
        assert options["trt_timing_cache_path"] == options["trt_engine_cache_path"]
        return str(options["trt_engine_cache_path"])

    path = tiny_model.build(tmp_path / "a")
    first = folder(path)
    assert Path(first).is_dir(), "TensorRT makes one folder, not its parents"
    assert Path(first).parent == tmp_path / "not" / "yet" / "tensorrt"
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    assert folder(copy) == first
    others = {folder(tiny_model.build(tmp_path / "b", seed=1)), folder(path, max_batch=16)}
    monkeypatch.setattr(gpus, "name", lambda _: "NVIDIA L4")
    others.add(folder(path))
    monkeypatch.setattr(tensorrt, "tensorrt_version", lambda: "101400")
    others.add(folder(path))
    assert len({*others, first}) == 5


def test_engines_that_cannot_be_kept_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a container without a volume each start would take minutes."""
    monkeypatch.setattr(tensorrt, "tensorrt_version", lambda: "101302")
    (tmp_path / "file").touch()
    with pytest.raises(ProviderError, match=r"cannot keep TensorRT engines in .*set data_dir to a writable folder"):
        tensorrt_options(tiny_model.build(tmp_path), Execution(cache_dir=tmp_path / "file"))


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr(gpus, "visible", list)
    monkeypatch.setattr(gpus, "_DRIVER", "libno-such-driver.so.1")
    with pytest.raises(ProviderError, match=r"no NVIDIA driver .* found: install driver 580 or newer"):
        require_cuda(0)


def test_a_driver_that_is_too_old_is_named(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel needs CUDA 13, which older drivers do not have."""
    monkeypatch.setattr(gpus, "supported_cuda", lambda: (12, 4))
    with pytest.raises(ProviderError, match=r"supports CUDA 12\.4, but .* needs CUDA 13: install driver 580"):
        require_cuda(0)


def test_a_gpu_that_is_too_old_is_named(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel has no code for it."""
    monkeypatch.setattr(gpus, "compute_capability", lambda _: (6, 1))
    with pytest.raises(ProviderError, match=r"NVIDIA H200 has compute capability 6\.1"):
        require_cuda(0)


def test_missing_libraries_are_named_with_the_extra_that_has_them() -> None:
    """All of them at once."""
    names = ["libno-such-library.so.10", "libc.so.6", "libnor-this-one.so.13"]
    with pytest.raises(
        ProviderError, match=r"^libno-such-library.so.10, libnor-this-one.so.13 not found: .*'.\[gpu\]'"
    ):
        require_libraries(names, extra="gpu")
