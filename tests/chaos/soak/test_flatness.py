"""What counts as growth in a soak: a rise of the fitted line, not noise and not the warm-up."""

import math
import random

import pytest

from tests.chaos.soak.flatness import grows, growth


def test_noise_around_a_level_is_flat() -> None:
    rng = random.Random(3)
    assert not grows("ingest RSS", [100e6 + rng.uniform(-3e6, 3e6) for _ in range(40)])


def test_a_leak_is_found_below_noise() -> None:
    """0.5 MB in each sample, in noise of 3 MB."""
    rng = random.Random(3)
    assert grows("ingest RSS", [100e6 + 0.5e6 * number + rng.uniform(-3e6, 3e6) for number in range(40)])


def test_one_slow_window_before_the_end_is_not_growth() -> None:
    assert not grows("p99 ms", [*[130, 150, 290, 140] * 10, 1428, 140])


def test_latency_that_rises_beneath_slow_windows_is_growth() -> None:
    values = [130 + 20 * number for number in range(40)]
    assert grows("p99 ms", [value + 300 * (number % 6 == 0) for number, value in enumerate(values)])


def test_the_warm_up_is_not_judged() -> None:
    assert not grows("keys", [0, 500, 1000, 1500, 2000, *[2000] * 15])


def test_one_descriptor_a_minute_is_a_leak() -> None:
    assert grows("ingest descriptors", [40 + number / 2 for number in range(40)])


def test_samples_of_a_process_that_just_ended_are_left_out() -> None:
    assert growth([1, 1, math.nan, 2, 3, 4, 5]) == pytest.approx(4, abs=0.5)
