"""A receive window is how many bytes of one stream the sender may have under way unread.

Theory of operation. Every stream starts with a small window that both sides know without a
word, so that the first bytes need no round trip. The receiver widens it with credit as long as
its connection's budget has room: few streams get windows wide enough for a long fat path, 256
streams still hold no more than the budget. Each grant takes a share of what is left, so late
streams find something too. Credit is granted in lumps of half a window, not per read.

Invariant: bytes held for one connection <= STREAMS_MAX * FIRST_WINDOW_BYTES + SPARE_BYTES,
which is 8 MiB.
"""

from __future__ import annotations

from typing import final

STREAMS_MAX = 256
"""Live streams of one connection; as many as a small HTTP/2 server allows."""
FIRST_WINDOW_BYTES = 16 * 1024  # a call or two; times STREAMS_MAX it is half the budget
WINDOW_BYTES_MAX = 512 * 1024
"""Bounds what a stopped reader can hold; 5 MiB/s over a path of 100 ms."""
SPARE_BYTES = 4 * 1024 * 1024  # the other half of the 8 MiB that one connection may hold
_SHARE = 4  # one grant takes at most a quarter of the spare bytes left


@final
class WindowBudget:
    """The spare bytes of one connection, shared by its streams."""

    def __init__(self) -> None:
        self.spare = SPARE_BYTES

    def take(self, wanted: int) -> int:
        taken = min(wanted, self.spare // _SHARE)
        self.spare -= taken
        return taken

    def give_back(self, amount: int) -> None:
        self.spare += amount
        assert self.spare <= SPARE_BYTES, "more window returned than taken"


@final
class ReceiveWindow:
    """The receiver's side of one stream's credit."""

    def __init__(self, budget: WindowBudget) -> None:
        self._budget = budget
        self._size = FIRST_WINDOW_BYTES
        self._allowed = FIRST_WINDOW_BYTES
        self._consumed = 0

    def widen(self) -> int:
        """Credit to grant before anything was read; 0 when the budget is spent."""
        extra = self._budget.take(WINDOW_BYTES_MAX - self._size)
        self._size += extra
        self._allowed += extra
        return extra

    def admits(self, size: int) -> bool:
        """Whether the sender had credit for these bytes; they count as arrived."""
        self._allowed -= size
        return self._allowed >= 0

    def consumed(self, size: int) -> int:
        """The reader took bytes: credit to grant now, 0 while it is too little to mention."""
        self._consumed += size
        if self._consumed * 2 < self._size:
            return 0
        grant, self._consumed = self._consumed, 0
        self._allowed += grant
        return grant + self.widen()

    def release(self) -> None:
        """The stream holds nothing any more; the budget gets its share back, once."""
        self._budget.give_back(self._size - FIRST_WINDOW_BYTES)
        self._size = FIRST_WINDOW_BYTES
