"""Batches, top-k and batch sizes: pure functions of arrays and numbers."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from consumers.batch import Batch, request_of, top
from consumers.batch_size import BatchSizer, padded_sizes
from ingest.dispatch.partition_client import PreparedImage
from stream.entry import CANCELLED, DamagedEntry, Entry, MalformedEntry
from stream.group import Delivery
from stream.model import ModelDescription, Resize


def delivery(number: int) -> Delivery:
    return Delivery(f"{number}-0", Entry(f"{number}", "", 1, 1, 2, bytes([number] * 6)))


def test_a_log_names_the_request_of_an_image_whose_client_has_gone() -> None:
    """The pixels are deleted then, and the id is left."""
    assert request_of(Delivery("1-0", DamagedEntry({b"id": b"7"}, CANCELLED))) == "7"
    assert request_of(Delivery("1-0", MalformedEntry("no entry"))) == ""


def test_each_image_lies_in_its_row() -> None:
    """And the previous content of the row is gone."""
    buffer = np.full((4, 1, 2, 3), 255, np.uint8)
    batch = Batch.fill(buffer, [delivery(3), delivery(5)])
    assert buffer[:, 0, 0, 0].tolist() == [3, 5, 255, 255]
    assert len(batch) == 2


def test_pixels_keep_their_fractions_on_the_way() -> None:
    """All 65,281 steps from 0 to 255; `px` alone is the rounded pixel, for a model that takes no fractions."""
    steps = np.arange(255 * 256 + 1, dtype=np.uint16)
    model = ModelDescription("m", "1", "", 1, len(steps), Resize(interpolation="bilinear", rounded=False), ("a",))
    entry = PreparedImage(replace(model, channels=1), steps.astype("<u2").tobytes(), 1).entry("1", reply="")
    assert np.frombuffer(entry.pixels, np.uint8).tolist() == ((steps.astype(int) + 128) // 256).tolist()
    buffer = np.zeros((2, 1, len(steps), 1), np.float32)
    Batch.fill(buffer, [Delivery("1-0", entry)])
    assert (buffer[0].ravel() * 256).tolist() == steps.tolist()


def test_an_entry_without_fractions_has_whole_pixels() -> None:
    """It comes from an ingest that has not learned of the new version yet, or from a client that sends pixels."""
    buffer = np.zeros((4, 1, 2, 3), np.float32)
    Batch.fill(buffer, [delivery(3), delivery(255)])
    assert buffer[:, 0, 0, 0].tolist() == [3, 255, 0, 0]


def test_dropped_rows_close_up() -> None:
    """The remaining rows keep their order and their deliveries."""
    batch = Batch.fill(np.zeros((4, 1, 2, 3), np.uint8), [delivery(number) for number in (1, 2, 3, 4)])
    batch.keep([1, 3])
    assert batch.buffer[:2, 0, 0, 0].tolist() == [2, 4]
    assert [delivery.entry_id for delivery in batch.deliveries] == ["2-0", "4-0"]


@st.composite
def outputs(draw: st.DrawFn) -> np.ndarray:
    """Probabilities of a few images, many of them equal."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 50)))
    return draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5])))


@given(outputs(), st.data())
def test_top_is_a_stable_sort(probabilities: np.ndarray, data: st.DataObject) -> None:
    """Also if many classes are equally probable, and each image wants another number of them."""
    images = len(probabilities)
    counts = data.draw(st.lists(st.integers(1, 60), min_size=images, max_size=images))
    for row, count, found in zip(probabilities, counts, top(probabilities, counts), strict=True):
        order = np.argsort(-row, kind="stable")[:count]
        assert found == (tuple(order.tolist()), tuple(row[order].tolist()))


def test_top_zero_is_everything_in_class_order() -> None:
    """For clients that want the whole vector, whatever the other images of the batch want."""
    values = np.array([[0.25, 0.5, 0.25]] * 2, np.float32)
    assert top(values, [0, 1]) == [((0, 1, 2), (0.25, 0.5, 0.25)), ((1,), (0.5,))]


def test_an_image_without_probabilities_takes_none_of_its_neighbours() -> None:
    """A model may return NaN for one image."""
    values = np.array([[np.nan, np.nan], [0.25, 0.75]], np.float32)
    assert top(values, [2, 2]) == [((), ()), ((1, 0), (0.75, 0.25))]


def test_a_slow_model_gets_small_batches() -> None:
    """A batch stays within max_batch_s at the measured speed, and holds at least one image."""
    sizer = BatchSizer(max_batch=32, max_batch_s=1.0)
    assert sizer.batch_size == 32
    sizer.add_run(1, 0.1)
    assert sizer.batch_size == 10
    assert sizer.images_per_s == 10
    for _ in range(50):
        sizer.add_run(10, 50.0)
    assert sizer.batch_size == 1
    for _ in range(100):
        sizer.add_run(10, 0.01)
    assert sizer.batch_size == 32


def test_padded_sizes_end_with_the_largest_batch() -> None:
    """Padding never exceeds `max_batch`."""
    assert padded_sizes(32) == (1, 2, 4, 8, 16, 32)
    assert padded_sizes(20) == (1, 2, 4, 8, 16, 20)
    assert padded_sizes(1) == (1,)
