"""A byte budget bounds how much of other nodes' content this node holds in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from swarmharness.skills.errors import Overloaded


@final
class ByteBudget:
    """`with budget.take(size):` around the time that the content is held."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    @contextmanager
    def take(self, size_bytes: int) -> Iterator[None]:
        """Refused before anything is received; the same request may fit in a moment."""
        if self.held_bytes + size_bytes > self.limit_bytes:
            raise Overloaded(
                f"This node holds {self.held_bytes} bytes of inputs already and takes no"
                f" {size_bytes} more."
            )
        self.held_bytes += size_bytes
        try:
            yield
        finally:
            self.held_bytes -= size_bytes
