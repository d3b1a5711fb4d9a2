"""An item queue holds the items of one streamed call between their arrival and their reader.

Its size needs no limit of its own: the call's receive window bounds what can arrive unread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import final

from swarmharness.kernel.errors import SwarmError


@final
class ItemQueue:
    """One reader at a time."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error: SwarmError | None = None

    def put(self, item: bytes) -> None:
        self._items.append(item)
        self._wake()

    def end(self, error: SwarmError | None = None) -> None:
        """Items that have arrived are still read; then the error, if any, is raised."""
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            self._wake()

    async def get(self) -> bytes | None:
        """The next item; None after the last one."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return None
            assert self._waiter is None, "two readers of one stream of items"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def drop_unread(self) -> list[int]:
        """Forgets what nobody will read; returns the sizes, which the peer may send again."""
        sizes = [len(item) for item in self._items]
        self._items.clear()
        return sizes

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
