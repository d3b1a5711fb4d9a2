"""The virtual clock is a node's clock inside a simulated run; its wall time may be set askew."""

from __future__ import annotations

import asyncio
from typing import final

from swarmharness.simulator.loop import VirtualLoop

EPOCH_MS = 1_767_225_600_000  # every run begins at the first moment of 2026 (UTC)


@final
class VirtualClock:
    """Made inside a run; `skew_ms` is how far this node's wall clock is ahead of true time."""

    def __init__(self, *, skew_ms: int = 0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop), "a virtual clock needs a virtual loop"
        self._loop = loop
        self.skew_ms = skew_ms

    def now_us(self) -> int:
        return self._loop.now_us()

    def wall_ms(self) -> int:
        return EPOCH_MS + self._loop.now_us() // 1000 + self.skew_ms
