"""An inbox hands arrivals to whoever waits, and one error to everybody once it is closed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, final

from swarmharness.kernel.errors import SwarmError

T = TypeVar("T")


@final
class Inbox(Generic[T]):
    """Its bound is the putter's duty: both users count what they put elsewhere."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._error: Callable[[], SwarmError] | None = None

    def put(self, item: T) -> None:
        self._items.append(item)
        self._wake_one()

    async def get(self) -> T:
        """Cancelling a waiter passes its wake-up on, so no arrival is lost."""
        while not self._items:
            if self._error is not None:
                raise self._error()
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()
                elif waiter in self._waiting:  # else `close` has emptied the queue meanwhile
                    self._waiting.remove(waiter)
                raise
        return self._items.popleft()

    def close(self, error: Callable[[], SwarmError]) -> list[T]:
        """What nobody took is returned to the closer; further calls change nothing."""
        if self._error is None:
            self._error = error
        left = list(self._items)
        self._items.clear()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        return left

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
