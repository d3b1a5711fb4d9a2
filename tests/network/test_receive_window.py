import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.receive_window import (
    FIRST_WINDOW_BYTES,
    SPARE_BYTES,
    STREAMS_MAX,
    WINDOW_BYTES_MAX,
    ReceiveWindow,
    WindowBudget,
)


def test_one_stream_gets_the_widest_window():
    window = ReceiveWindow(WindowBudget())
    assert window.widen() == WINDOW_BYTES_MAX - FIRST_WINDOW_BYTES
    assert window.widen() == 0


def test_all_streams_together_stay_within_eight_mebibytes():
    budget = WindowBudget()
    windows = [ReceiveWindow(budget) for _ in range(STREAMS_MAX)]
    granted = [FIRST_WINDOW_BYTES + window.widen() for window in windows]
    assert sum(granted) <= 8 * 1024 * 1024
    assert min(granted) >= FIRST_WINDOW_BYTES
    for window in windows:
        window.release()
        window.release()
    assert budget.spare == SPARE_BYTES


def test_credit_comes_back_in_lumps_of_half_a_window():
    budget = WindowBudget()
    budget.spare = 0
    window = ReceiveWindow(budget)
    assert window.admits(FIRST_WINDOW_BYTES)
    assert window.consumed(FIRST_WINDOW_BYTES // 2 - 1) == 0
    assert window.consumed(1) == FIRST_WINDOW_BYTES // 2
    assert window.admits(FIRST_WINDOW_BYTES // 2)
    assert not window.admits(1)


def test_returning_more_than_was_taken_is_our_own_bug():
    with pytest.raises(AssertionError):
        WindowBudget().give_back(1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200_000)), max_size=60))
def test_the_sender_never_has_more_under_way_than_the_widest_window(steps):
    window = ReceiveWindow(WindowBudget())
    credit, unread = FIRST_WINDOW_BYTES, 0
    for sends, wanted in steps:
        size = min(wanted, credit if sends else unread)
        if sends:
            assert window.admits(size)
            credit -= size
            unread += size
        else:
            unread -= size
            credit += window.consumed(size)
        assert credit + unread <= WINDOW_BYTES_MAX
