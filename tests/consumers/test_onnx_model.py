"""Models, providers and artefacts: what is loaded, on which provider, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from consumers.batch_size import ChunkSizer
from consumers.gpu import devices as gpus
from consumers.onnx.artefact import ArtefactError
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import CPU, Execution, ProviderError
from consumers.onnx.session import Session, open_session
from tests.support.models import tiny_model
from tests.support.redis.requests_direct import random_images
from tests.support.waiting import wait_until

ON_CPU = Execution("cpu", threads=1, max_batch=8)

needs_gpu = pytest.mark.skipif(not gpus.visible(), reason="no NVIDIA GPU: the driver (libcuda) is absent or sees none")


def test_a_model_answers_for_each_row(tmp_path: Path) -> None:
    """A buffer holds old images behind the new ones; only the first rows count."""
    model = Model(tiny_model.build(tmp_path), ON_CPU)
    buffer = model.new_buffer()
    buffer[:] = random_images(8)
    np.testing.assert_allclose(model.run(buffer, 5), tiny_model.expected(buffer[:5], tiny_model.weights()), atol=1e-5)


class Counting(ChunkSizer):
    """Notes into how many chunks each batch was split."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.splits: list[int] = []

    def chunks(self, images: int) -> int:
        self.splits.append(super().chunks(images))
        return self.splits[-1]


def counting_session(path: Path, *, threads: int) -> tuple[Session, Counting]:
    session, sizer = Session(path, CPU, Execution(threads=threads, max_batch=8)), Counting(threads)
    session._chunk_sizer = sizer
    return session, sizer


@pytest.mark.parametrize(
    ("count", "threads", "chunks"),
    [
        (8, 1, 4),
        (8, 2, 4),
        (8, 3, 6),
        (8, 5, 5),
        (8, 8, 8),
        (8, 9, 1),
        (1, 2, 1),
        (2, 2, 2),
        (3, 2, 1),
        (5, 2, 4),
        (6, 4, 1),
    ],
)
def test_a_batch_runs_in_chunks_of_two_or_less(count: int, threads: int, chunks: int, tmp_path: Path) -> None:
    """The same number for each thread; images too few to keep most threads busy run at once."""
    session, sizer = counting_session(tiny_model.build(tmp_path), threads=threads)
    buffer, truth = random_images(8), tiny_model.expected(random_images(8), tiny_model.weights())
    np.testing.assert_allclose(session.run(buffer, count), truth[:count], atol=1e-5)
    assert sizer.splits == [chunks]


def test_a_network_that_takes_next_to_no_time_runs_a_batch_at_once(tmp_path: Path) -> None:
    """As soon as that is known."""
    session, sizer = counting_session(tiny_model.build(tmp_path), threads=1)
    buffer = random_images(8)
    wait_until(lambda: session.run(buffer, 8) is not None and sizer.splits[-1] == 1, "the batch runs at once")
    np.testing.assert_allclose(session.run(buffer, 8), tiny_model.expected(buffer, tiny_model.weights()), atol=1e-5)


def test_the_description_is_what_the_file_says(tmp_path: Path) -> None:
    """Ingest prepares images by it."""
    about = Model(tiny_model.build(tmp_path, name="mine", version="4"), ON_CPU).description
    assert (about.name, about.version, about.height, about.width) == ("mine", "4", 16, 16)
    assert about.labels[3] == "class_3"
    assert about.resize.mode == "squash"
    assert len(about.digest) == 64


def test_a_model_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    """The golden input is run on the very provider that will serve."""
    with pytest.raises(GoldenMismatch, match="golden output"):
        Model(tiny_model.damaged(tiny_model.build(tmp_path)), ON_CPU)


def bare(path: Path) -> Path:
    """The same network without a word of Sluice's."""
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


def test_a_file_put_there_by_hand_is_served_with_class_indices(tmp_path: Path) -> None:
    """If it takes uint8 [N, H, W, 3] and gives probabilities, its folders give the rest."""
    model = Model(bare(tiny_model.build(tmp_path, name="foreign", version="3")), ON_CPU)
    about = model.description
    assert (about.name, about.version, about.height, about.width) == ("foreign", "3", 16, 16)
    assert about.labels == tuple(str(index) for index in range(tiny_model.CLASSES))
    buffer = model.new_buffer()
    buffer[:] = random_images(8)
    np.testing.assert_allclose(model.run(buffer, 8), tiny_model.expected(buffer, tiny_model.weights()), atol=1e-5)


def test_an_external_file_of_another_shape_says_how_to_wrap_it(tmp_path: Path) -> None:
    """Float input, channels first: what most frameworks export."""
    path = bare(tiny_model.build(tmp_path))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, path)
    with pytest.raises(ArtefactError, match="python -m export --onnx"):
        Model(path, ON_CPU)


def test_an_unloaded_model_loads_itself_again(tmp_path: Path) -> None:
    """With the next batch, and answers the same."""
    model = Model(tiny_model.build(tmp_path), ON_CPU)
    buffer = model.new_buffer()
    buffer[:] = random_images(8)
    before = model.run(buffer, 8)
    model.unload()
    assert not model.loaded
    np.testing.assert_array_equal(model.run(buffer, 8), before)
    assert model.loaded


@pytest.mark.parametrize("wanted", ["cuda", "tensorrt"])
@pytest.mark.skipif(bool(gpus.visible()), reason="a GPU is there")
def test_a_provider_that_does_not_work_is_never_replaced_silently(wanted: str, tmp_path: Path) -> None:
    """ONNX Runtime would fall back to the CPU without an error."""
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        Model(tiny_model.build(tmp_path), Execution(wanted))  # type: ignore[arg-type]


def test_auto_takes_what_works_and_says_which(tmp_path: Path) -> None:
    """The name goes into the log and the outcomes."""
    assert Model(tiny_model.build(tmp_path), Execution("auto")).provider.ort_name in ort.get_available_providers()


def test_a_broken_file_is_reported_with_its_path(tmp_path: Path) -> None:
    """ONNX Runtime's message is passed on."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ProviderError, match=r"model\.onnx"):
        open_session(path, CPU, ON_CPU)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    "execution",
    [Execution("cuda"), Execution("cuda", cuda_graphs=True), Execution("tensorrt")],
    ids=["cuda", "cuda graphs", "tensorrt"],
)
def test_a_gpu_answers_as_the_cpu_does(execution: Execution, tmp_path: Path) -> None:
    """For every batch size, so for every padded size, and twice, so that captured graphs are replayed."""
    path = tiny_model.build(tmp_path)
    model = Model(path, execution)
    buffer = model.new_buffer()
    for count in (*range(1, 33), *range(1, 33)):
        buffer[:] = random_images(32, seed=count)
        truth = tiny_model.expected(buffer[:count], tiny_model.weights())
        np.testing.assert_allclose(model.run(buffer, count), truth, atol=2e-2)
