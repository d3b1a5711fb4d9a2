"""The waiting room holds those who want to send and must wait for a window or for the queue."""

from __future__ import annotations

import asyncio
from typing import final

from swarmharness.network.rpc.calls import CallIn, CallOut


@final
class WaitingRoom:
    """Being let out promises nothing: whoever waits looks again, and perhaps waits again."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], CallOut | CallIn | None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, call: CallOut | CallIn | None) -> None:
        """For this call's window, or (None) for what all calls share."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = call
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    def let_out(self, call: CallOut | CallIn | None) -> None:
        """Those who wait for the same."""
        for waiter, wanted in self._waiters.items():
            if wanted is call and not waiter.done():
                waiter.set_result(None)

    def let_all_out(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
