"""A window is how many more bytes of items one side may send before the other has read some.

Theory of operation. An item may start whenever its window is open, even by one byte, and then
travels whole: the window may so fall below zero by one item (at most 1 MiB). An item therefore
never waits half-sent for a grant that only its own completion would bring. A receiver holds at
most one window and one item per call, and the same for all calls of a connection together.
"""

from __future__ import annotations

from typing import final

from swarmharness.network.errors import ProtocolViolation
from swarmharness.network.rpc.limits import ITEM_OVERHEAD_BYTES, MAX_WINDOW_BYTES


def item_cost(size_bytes: int) -> int:
    """What an item takes from a window."""
    return size_bytes + ITEM_OVERHEAD_BYTES


@final
class SendWindow:
    """The sender's view."""

    __slots__ = ("left_bytes",)

    def __init__(self, size_bytes: int) -> None:
        self.left_bytes = size_bytes

    @property
    def is_open(self) -> bool:
        return self.left_bytes > 0

    def spend(self, cost_bytes: int) -> None:
        assert self.left_bytes > 0, "an item was sent through a closed window"
        self.left_bytes -= cost_bytes

    def grant(self, more_bytes: int) -> None:
        """The peer has read; grants that no reading explains are refused."""
        if self.left_bytes + more_bytes > MAX_WINDOW_BYTES:
            raise ProtocolViolation(f"A window was opened beyond {MAX_WINDOW_BYTES} bytes.")
        self.left_bytes += more_bytes


@final
class ReceiveWindow:
    """The receiver's view: what arrived, what was read, what was not yet granted again."""

    __slots__ = ("_left_bytes", "_owed_bytes", "_threshold_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._owed_bytes = 0
        self._threshold_bytes = size_bytes // 2

    def arrived(self, cost_bytes: int) -> None:
        if self._left_bytes <= 0:
            raise ProtocolViolation("An item arrived although the window was closed.")
        self._left_bytes -= cost_bytes

    def consumed(self, cost_bytes: int) -> int:
        """Bytes to grant now; 0 until half the window was read, so that grants stay rare."""
        self._owed_bytes += cost_bytes
        if self._owed_bytes < self._threshold_bytes:
            return 0
        granted, self._owed_bytes = self._owed_bytes, 0
        self._left_bytes += granted
        return granted
