"""The byte budget holds to the byte, and gives back however the block ends."""

from __future__ import annotations

import pytest

from swarmharness.node.byte_budget import ByteBudget
from swarmharness.skills.errors import Overloaded


def test_the_limit_and_one_more() -> None:
    budget = ByteBudget(10)
    with budget.take(4), budget.take(6):
        with pytest.raises(Overloaded, match="10 bytes"), budget.take(1):
            pass
        with budget.take(0):
            pass
    assert budget.held_bytes == 0


def test_an_error_inside_gives_back_what_was_taken() -> None:
    budget = ByteBudget(10)
    with pytest.raises(KeyError), budget.take(10):
        raise KeyError
    with budget.take(10):
        assert budget.held_bytes == 10
