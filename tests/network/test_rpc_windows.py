import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc.call_budget import CallBudget
from swarmharness.network.rpc.limits import ITEM_OVERHEAD_BYTES, MAX_WINDOW_BYTES
from swarmharness.network.rpc.windows import ReceiveWindow, SendWindow, item_cost


@given(
    sizes=st.lists(st.integers(0, 3000), max_size=60), reads=st.lists(st.booleans(), max_size=99)
)
def test_both_views_agree_and_an_honest_sender_is_never_blamed(sizes, reads):
    sender, receiver = SendWindow(1000), ReceiveWindow(1000)
    unread: list[int] = []
    todo = list(sizes)
    turns = iter(reads)
    while todo:
        if sender.is_open:
            cost = item_cost(todo.pop())
            sender.spend(cost)
            receiver.arrived(cost)
            unread.append(cost)
        elif not unread:
            pytest.fail("closed although everything was read")
        if unread and (next(turns, True) or not sender.is_open):
            granted = receiver.consumed(unread.pop(0))
            if granted:
                sender.grant(granted)
        assert sum(unread) <= 1000 + item_cost(3000)


def test_an_item_through_a_closed_window_is_a_violation():
    window = ReceiveWindow(100)
    window.arrived(100)
    with pytest.raises(ProtocolViolation):
        window.arrived(1)


def test_grants_are_rare_and_bounded():
    window = ReceiveWindow(100)
    assert window.consumed(49) == 0
    assert window.consumed(1) == 50
    sender = SendWindow(0)
    sender.grant(MAX_WINDOW_BYTES)
    with pytest.raises(ProtocolViolation):
        sender.grant(1)


def test_an_empty_item_costs_something():
    assert item_cost(0) == ITEM_OVERHEAD_BYTES


def test_the_budget_refuses_one_too_many_and_asserts_balance():
    budget = CallBudget(2)
    assert [budget.try_take(0) for _ in range(3)] == [True, True, False]
    budget.give_back(0)
    assert budget.try_take(0)
    budget.give_back(0)
    budget.give_back(0)
    with pytest.raises(AssertionError):
        budget.give_back(0)
