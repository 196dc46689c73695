"""The backlog limit: by number and by time, and how long it stays closed. Arithmetic and a hand-made clock."""

import pytest

from ingest.backpressure import BacklogLimit


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_rate_only_the_number_counts() -> None:
    """Before the first report of a consumer nothing is known of its speed."""
    backlog = BacklogLimit(max_backlog=500, max_wait_s=10)
    assert backlog.limit == 500
    assert backlog.retry_after_s(500) == 2


@pytest.mark.parametrize(("rate", "most"), [(1, 32), (20, 200), (49, 490), (1000, 500)])
def test_no_more_may_wait_than_can_be_done_in_time(rate: float, most: int) -> None:
    """Rate times max_wait_s, between one batch and max_backlog."""
    backlog = BacklogLimit(max_backlog=500, max_wait_s=10)
    backlog.set_rate(rate)
    assert backlog.limit == most
    assert backlog.reached() == ("more than 10 s of work" if most < 500 else "as many as max_backlog allows")


def test_the_time_to_come_back_is_the_time_to_drain() -> None:
    """Backlog over rate, a minute at most."""
    backlog = BacklogLimit(max_backlog=500, max_wait_s=10)
    backlog.set_rate(20)
    assert backlog.retry_after_s(200) == 10
    assert backlog.retry_after_s(100_000) == 60


def test_a_full_queue_stays_closed_for_a_tenth_of_it() -> None:
    """And never for so long that the queue could run empty."""
    clock = Clock()
    backlog = BacklogLimit(max_backlog=500, max_wait_s=10, clock=clock)
    backlog.set_rate(100)
    assert not backlog.is_closed
    backlog.close_for(40)  # 0.4 s of work
    assert backlog.is_closed
    clock.now_s += 0.041
    assert not backlog.is_closed
    backlog.close_for(500)  # 5 s of work
    clock.now_s += 0.49
    assert backlog.is_closed
    clock.now_s += 0.02
    assert not backlog.is_closed
