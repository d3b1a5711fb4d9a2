"""The call budget counts the calls that one node serves at once, over all its connections."""

from __future__ import annotations

from typing import final

from swarmharness.network.rpc.limits import CALLS_PER_NODE


@final
class CallBudget:
    """Handed to every connection of a node."""

    def __init__(self, limit: int = CALLS_PER_NODE) -> None:
        self.limit = limit
        self.taken = 0

    def try_take(self) -> bool:
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        assert self.taken > 0, "a call was given back twice"
        self.taken -= 1
