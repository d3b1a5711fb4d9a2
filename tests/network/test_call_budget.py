"""The call budget leaves room for one more peer, however many are greedy."""

from __future__ import annotations

import pytest

from swarmharness.network.rpc.call_budget import FIRST_CALLS, CallBudget
from swarmharness.network.rpc.limits import CALLS_PER_PEER

PEERS = 250


def greedy(budget: CallBudget) -> int:
    held = 0
    while held < CALLS_PER_PEER and budget.try_take(held):
        held += 1
    return held


def test_a_peer_alone_gets_all_that_a_peer_may_have() -> None:
    assert greedy(CallBudget()) == CALLS_PER_PEER


@pytest.mark.parametrize("peers", [9, 64, PEERS - 1])
def test_greedy_peers_leave_the_first_calls_of_a_newcomer(peers: int) -> None:
    budget = CallBudget()
    for _ in range(peers):
        assert greedy(budget) >= FIRST_CALLS
    assert greedy(budget) >= FIRST_CALLS


def test_what_is_given_back_can_be_taken_again() -> None:
    budget = CallBudget()
    shares = [greedy(budget) for _ in range(PEERS)]
    for share in shares:
        for held in reversed(range(share)):
            budget.give_back(held)
    assert budget.taken == 0
    assert [greedy(budget) for _ in range(PEERS)] == shares


def test_nothing_is_taken_from_an_empty_budget() -> None:
    budget = CallBudget(0)
    assert not budget.try_take(0)
    assert not budget.try_take(FIRST_CALLS)
