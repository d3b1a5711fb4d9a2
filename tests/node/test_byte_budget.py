"""The byte budget holds to the byte, for all and for each, and always gives back."""

from __future__ import annotations

import pytest

from swarmharness.kernel.ids import NodeId
from swarmharness.node.byte_budget import ByteBudget
from swarmharness.skills.errors import Overloaded

A, B, C = (NodeId(bytes([n]) * 32) for n in range(1, 4))


def test_the_limit_and_one_more() -> None:
    budget = ByteBudget(10, share_bytes=10)
    with budget.take(A, 4), budget.take(B, 6):
        with pytest.raises(Overloaded, match="10 bytes"), budget.take(C, 1):
            pass
        with budget.take(A, 0):
            pass
    assert budget.held_bytes == 0


def test_the_share_of_one_and_one_more() -> None:
    budget = ByteBudget(100, share_bytes=10)
    with budget.take(A, 4), budget.take(A, 6):
        with pytest.raises(Overloaded, match="your inputs"), budget.take(A, 1):
            pass
        with budget.take(B, 10):
            pass
    with budget.take(A, 10):
        pass


def test_one_piece_may_be_larger_than_the_share() -> None:
    budget = ByteBudget(100, share_bytes=10)
    with budget.take(A, 90), pytest.raises(Overloaded), budget.take(A, 1):
        pass
    with budget.take(A, 1), pytest.raises(Overloaded), budget.take(A, 90):
        pass


def test_an_error_inside_gives_back_what_was_taken() -> None:
    budget = ByteBudget(10, share_bytes=5)
    with pytest.raises(KeyError), budget.take(A, 10):
        raise KeyError
    with budget.take(A, 10):
        assert budget.held_bytes == 10
