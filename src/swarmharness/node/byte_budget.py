"""A byte budget bounds how much of other nodes' content this node holds in memory at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from swarmharness.kernel.ids import NodeId
from swarmharness.skills.errors import Overloaded


@final
class ByteBudget:
    """`with budget.take(peer, size):` around the time that the content is held.

    One peer alone cannot use it up: it gets `share_bytes`, or one piece of any size that fits.
    """

    def __init__(self, limit_bytes: int, *, share_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.share_bytes = share_bytes
        self.held_bytes = 0
        self._held_for: Counter[NodeId] = Counter()

    @contextmanager
    def take(self, peer: NodeId, size_bytes: int) -> Iterator[None]:
        """Refused before anything is received; the same request may fit in a moment."""
        if self.held_bytes + size_bytes > self.limit_bytes:
            raise Overloaded(
                f"This node holds {self.held_bytes} bytes of inputs already and takes no"
                f" {size_bytes} more."
            )
        held = self._held_for[peer]
        if held and held + size_bytes > self.share_bytes:
            raise Overloaded(
                f"This node holds {held} bytes of your inputs already and takes no"
                f" {size_bytes} more."
            )
        self.held_bytes += size_bytes
        self._held_for[peer] += size_bytes
        try:
            yield
        finally:
            self.held_bytes -= size_bytes
            self._held_for[peer] -= size_bytes
            if not self._held_for[peer]:
                del self._held_for[peer]
