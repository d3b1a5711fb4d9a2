"""A gauge counts work that is under way, and tells when there is none left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final


@final
class Gauge:
    """`with gauge.one():` around each piece of work."""

    def __init__(self) -> None:
        self.value = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts as work until the block is left, however it is left."""
        self.value += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.value -= 1
            if self.value == 0:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when nothing is under way, at once if nothing is."""
        await self._idle.wait()
