"""A bell wakes everybody who waits for something to change; they look again for themselves."""

from __future__ import annotations

import asyncio
from typing import final


@final
class Bell:
    """Unlike `asyncio.Event` it has no state that could be stale."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        """Until the next ring."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    def ring(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
