"""The call budget counts the calls that one node serves at once, over all its connections.

A peer's first calls come out of a half that is kept for them: enough for as many peers as a node
has, so that greedy ones never shut the others out. Further calls share the other half, of which
one peer gets no more than what it leaves free.
"""

from __future__ import annotations

from typing import final

from swarmharness.network.rpc.limits import CALLS_PER_NODE

FIRST_CALLS = 2  # the watch that every peer keeps open, and one that does something


@final
class CallBudget:
    """Handed to every connection of a node."""

    def __init__(self, limit: int = CALLS_PER_NODE) -> None:
        self.limit = limit
        self.taken = 0
        self._further = 0
        self._further_limit = limit - limit // 2

    def try_take(self, held: int) -> bool:
        """One more for a connection that holds `held`."""
        if self.taken >= self.limit:
            return False
        if held >= FIRST_CALLS:
            if held - FIRST_CALLS >= self._further_limit - self._further:
                return False
            self._further += 1
        self.taken += 1
        return True

    def give_back(self, held: int) -> None:
        """One less for a connection that then holds `held`."""
        assert self.taken > 0, "a call was given back twice"
        self.taken -= 1
        if held >= FIRST_CALLS:
            self._further -= 1
